"""UniPC: a multistep exponential integrator whose every step is corrected by the call that the next step makes anyway.

UniP, the predictor of order p, goes from s to t with p values of the network. Its x_t is where the network is asked next; UniC,
the corrector, then takes the same step once more with that value, at the node r = 1, as well, which raises the order to p + 1. No
call is made for it. The last step is not corrected: of order p it leaves the whole at p + 1, of order 1, as `lower_order_final`
has it, at 2. In the terms of `etsdm.samplers.lambda_space` both have the moments of the polynomial, except where they have one
node: there M_1 = B(h)/2 for the variants

    bh1     B(h) = h
    bh2     B(h) = e^h - 1

Zhao et al. 2023, "UniPC: A Unified Predictor-Corrector Framework for Fast Sampling of Diffusion Models".
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal

from pydantic import PositiveInt
from torch import Tensor

from etsdm.grids import Grid, UniformGrid
from etsdm.registry import samplers
from etsdm.samplers.base import NoiseSource, Predicted, Sampler, StepResult
from etsdm.samplers.lambda_space import Known, Leap, exact_moments, leaps, weights_at
from etsdm.samplers.model import CountedModel, Point

__all__ = ["UniPC"]


@samplers.register("unipc")
class UniPC(Sampler):
    """Unified predictor-corrector sampling; every step costs one call (Zhao et al. 2023).

    The x of a step is what the predictor gives; the correction is the first thing that the next step does.

    Attributes:
        order: p of the predictor.
        predicts: what is interpolated, x0 or eps.
        variant: `bh1` or `bh2`, above, or `vary_coeff`, which has the polynomial's moments throughout, and a corrector as in the
            authors' code: it leaves out the last moment, and so is of first order only when p is 2 or more.
        lower_order_final: the last steps are of order ..., 2, 1.
    """

    steps: PositiveInt = 20
    order: PositiveInt = 3
    predicts: Predicted = "x0"
    variant: Literal["bh1", "bh2", "vary_coeff"] = "bh2"
    lower_order_final: bool = True
    grid: Grid = UniformGrid()

    def _steps(self, network: CountedModel, path: Sequence[Point], x: Tensor, noise: NoiseSource) -> Iterator[StepResult]:
        solved = self._solved(path)
        known: deque[Known] = deque(maxlen=self.order)
        taken: tuple[Leap, Tensor, list[Known]] | None = None
        for i, (s, t) in enumerate(pairwise(path)):
            said = network(x, s)
            now = Known(s.lam, getattr(said, self.predicts))
            if taken is not None:
                x = self._corrected(*taken, now)
            if math.isfinite(s.lam):
                known.appendleft(now)
            if leaps(s, t):
                order = min(len(known), solved - i) if self.lower_order_final else len(known)
                taken = Leap.between(s, t, self.predicts), x, list(known)[:order]
                x = self._predicted(*taken)
            else:
                taken, order = None, 1
                x = said.mixed(t.alpha, t.sigma)
            yield StepResult(x, said, order)

    def _predicted(self, leap: Leap, x: Tensor, known: list[Known]) -> Tensor:
        """UniP."""
        return leap.land(x, known, self._moments(leap.h, len(known) - 1))

    def _corrected(self, leap: Leap, x: Tensor, known: list[Known], there: Known) -> Tensor:
        """UniC, with what the network says of the predictor's x_t."""
        known = [*known, there]
        p = len(known) - 1
        if self.variant != "vary_coeff" or p == 1:
            return leap.land(x, known, self._moments(leap.h, p))
        moments = exact_moments(leap.h, p)
        nodes = leap.nodes(known)
        *earlier, _ = weights_at(nodes, [*moments[:-1], 0])
        *_, last = weights_at(nodes, [*[0] * (p - 2), moments[-1] / p, 0])
        return leap.weighted(x, known, [*earlier, last])

    def _moments(self, h: float, count: int) -> list[float]:
        if count == 1 and self.variant != "vary_coeff":
            return [(h if self.variant == "bh1" else math.expm1(h)) / 2]
        return exact_moments(h, count)
