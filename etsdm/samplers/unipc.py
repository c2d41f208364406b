"""UniPC: a multistep exponential integrator whose every step is corrected by the call that the next step makes anyway.

UniP, the predictor of order p, goes from s to t with p model outputs. The network is then called at its x_t; UniC, the corrector, takes
the same step once more with that output, at the node r = 1, as well, which raises the order to p + 1. It costs no call. The last step
is not corrected: of order p it leaves the whole at p + 1, of order 1, as `lower_order_final` has it, at 2. In the terms of
`etsdm.samplers.lambda_space` both have the moments of the polynomial, except where they have one node: there M_1 = B(h)/2 for the
variants

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

from torch import Tensor

from etsdm.denoisers.time_point import TimePoint
from etsdm.grids import Grid, UniformGrid
from etsdm.registry import samplers
from etsdm.registry.counts import Order, Steps
from etsdm.samplers.base import Sampler
from etsdm.samplers.lambda_space import ExponentialStep, ModelValue, exact_moments, has_finite_step, weights_at
from etsdm.samplers.model import CountedModel
from etsdm.samplers.step import NoiseSource, Predicted, StepResult

__all__ = ["UniPC"]


@samplers.register("unipc")
class UniPC(Sampler):
    """Unified predictor-corrector sampling; every step costs one call (Zhao et al. 2023).

    The x of a step is the predictor's; the correction is the first part of the next step.

    Attributes:
        order: p of the predictor.
        predicts: the model output that is interpolated, x0 or eps.
        variant: `bh1` or `bh2`, above, or `vary_coeff`, which has the polynomial's moments throughout, and a corrector as in the
            authors' code: it leaves out the last moment, and so is of first order only when p is 2 or more.
        lower_order_final: the last steps are of order ..., 2, 1.
    """

    steps: Steps = 20
    order: Order = 3
    predicts: Predicted = "x0"
    variant: Literal["bh1", "bh2", "vary_coeff"] = "bh2"
    lower_order_final: bool = True
    grid: Grid = UniformGrid()

    def _steps(self, model: CountedModel, path: Sequence[TimePoint], x: Tensor, noise: NoiseSource) -> Iterator[StepResult]:
        solved = self._solved(path)
        history: deque[ModelValue] = deque(maxlen=self.order)
        last: tuple[ExponentialStep, Tensor, list[ModelValue]] | None = None
        for i, (s, t) in enumerate(pairwise(path)):
            prediction = model(x, s)
            value = ModelValue(s.lam, getattr(prediction, self.predicts))
            if last is not None:
                x = self._correct(*last, value)
            if math.isfinite(s.lam):
                history.appendleft(value)
            if has_finite_step(s, t):
                # The authors' code, which takes no fewer steps than order, lowers none of the first.
                lowers = self.lower_order_final and not i < self.order - 1 <= solved - 1
                order = min(len(history), solved - i) if lowers else len(history)
                last = ExponentialStep.between(s, t, self.predicts), x, list(history)[:order]
                x = self._predict(*last)
            else:
                last, order = None, 1
                x = prediction.combine(x0=t.alpha, eps=t.sigma)
            yield StepResult(x, prediction, order)

    def _predict(self, step: ExponentialStep, x: Tensor, values: list[ModelValue]) -> Tensor:
        """UniP."""
        return step.apply(x, values, self._moments(step.h, len(values) - 1))

    def _correct(self, step: ExponentialStep, x: Tensor, values: list[ModelValue], value_t: ModelValue) -> Tensor:
        """UniC, with the model output at the predictor's x_t."""
        values = [*values, value_t]
        p = len(values) - 1
        if self.variant != "vary_coeff" or p == 1:
            return step.apply(x, values, self._moments(step.h, p))
        moments = exact_moments(step.h, p)
        nodes = step.nodes(values)
        *earlier, _ = weights_at(nodes, [*moments[:-1], 0])
        *_, last = weights_at(nodes, [*[0] * (p - 2), moments[-1] / p, 0])
        return step.weighted(x, values, [*earlier, last])

    def _moments(self, h: float, count: int) -> list[float]:
        if count == 1 and self.variant != "vary_coeff":
            return [(h if self.variant == "bh1" else math.expm1(h)) / 2]
        return exact_moments(h, count)
