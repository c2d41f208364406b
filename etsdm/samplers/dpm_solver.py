"""DPM-Solver and DPM-Solver++: exponential integrators of order 1 to 3, in single steps or from earlier steps.

A solver of order p takes p values of the network's eps (DPM-Solver) or x0 (DPM-Solver++) between lambda_s and lambda_t: a
singlestep one asks for them at points between, a multistep one remembers those of the steps before. In the terms of
`etsdm.samplers.lambda_space`, `taylor` has the moments of the polynomial through them, M_1 = h phi_2(h) and M_2 = 2 h phi_3(h);
`dpmsolver`, the authors' default, has

    order 2                 M_1 = (e^h - 1)/2
    order 3, singlestep     M_1 = h phi_2(h), from the later of the two points between alone
    order 3, multistep      M_1 = h phi_2(h), M_2 = h phi_3(h)

The last of these is half of what a third-order method needs, as it is in the authors' code: it is of order 2, with a small error.

Lu et al. 2022a, "DPM-Solver: A Fast ODE Solver for Diffusion Probabilistic Model Sampling in Around 10 Steps", and 2022b, "DPM-Solver++:
Fast Solver for Guided Sampling of Diffusion Probabilistic Models".
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator
from torch import Tensor

from etsdm.errors import PartError
from etsdm.grids import Explicit, Grid, Linspace, LogSNRGrid, UniformGrid
from etsdm.grids.base import RealGrid
from etsdm.grids.timesteps import TimestepGrid
from etsdm.registry import field_error, samplers
from etsdm.samplers.base import NoiseSource, Predicted, Sampler, StepResult
from etsdm.samplers.lambda_space import Known, Leap, exact_moments, leaps, phi
from etsdm.samplers.model import Answer, CountedModel, Point
from etsdm.schedules import Schedule

__all__ = ["MultistepDPMSolver", "SinglestepDPMSolver"]


class DPMSolver(Sampler):
    """What both have.

    Attributes:
        order: 1, which is DDIM, to 3.
        predicts: what is interpolated: eps, DPM-Solver, or x0, DPM-Solver++.
        solver_type: which moments; see the module's beginning.
    """

    steps: PositiveInt = 20
    order: int = Field(3, ge=1, le=3)
    predicts: Predicted = "eps"
    solver_type: Literal["dpmsolver", "taylor"] = "dpmsolver"


@samplers.register("dpm-solver-singlestep")
class SinglestepDPMSolver(DPMSolver):
    """DPM-Solver whose steps are independent of each other; a step of order p costs p calls of the network.

    `steps` counts calls, as in the authors' code ("DPM-Solver-fast"): as many steps of `order` as fit, then one or two of lower order
    for what is left, so that 20 calls of order 3 are 6 x 3 + 2, and 50 are 16 x 3 + 2. On the grid `log-snr` all steps are of the
    same length and the points between divide them evenly; on others each call has a place of the grid. A step without signal at
    its start or noise at its end is of first order and costs one call.

    Attributes:
        t_end: as for all samplers, but an end without noise, which no log-SNR has, stands for the schedule's first time with noise:
            timestep 0 on a discrete schedule, the authors' t = 1/T, and mostly 0.001 on a continuous one. With null, the last of the
            calls goes from that time to the clean image.
        denoise_to_zero: as for all samplers; that call comes on top of `steps`.
    """

    grid: Grid = LogSNRGrid()
    t_end: NonNegativeFloat | None = 0.0

    @model_validator(mode="after")
    def _grid_reaches_the_end(self) -> SinglestepDPMSolver:
        if isinstance(self.grid, TimestepGrid) and self.t_end is not None:
            message = f"grid {self.grid.type_name!r} ends in the clean image, not at {self.t_end:g}; give t_end: null, or grid: linspace"
            raise field_error("SinglestepDPMSolver", ("t_end",), message, self.t_end)
        return self

    def _times(self, schedule: Schedule, start: float | None) -> Tensor:
        end = schedule.t_min if self.t_end is not None and self.t_end <= schedule.domain[0] else self.t_end
        if start is not None and end is not None and end >= start:
            message = f"{start:g} is not later than {end:g}, where sampler {self.type_name!r} ends; give more, or t_end: null"
            raise PartError("start", message)
        before = int(schedule.alpha(schedule.domain[1] if start is None else start) == 0)
        after = int(end is None)
        solved = max(self.steps - before - after, 0)
        several = solved // 3 + 1 if self.order == 3 and solved else math.ceil(solved / self.order)
        # A single call from no signal to the clean image is one step.
        finite = [*[False] * before, *[True] * several, *[False] * after][: self.steps]
        if isinstance(self.grid, LogSNRGrid):
            return self.grid.times(schedule, len(finite), start=start, end=end)
        times = self.grid.times(schedule, self.steps, start=start, end=end)
        return times[[k for k in accumulate(self._orders(self.steps, finite), initial=0) if k < len(times)]]

    def _orders(self, calls: int, finite: Sequence[bool]) -> list[int]:
        """Of the steps, given for which of them log-SNR rises by a finite amount: the highest that leave a call for each later one."""
        orders: list[int] = []
        for left, high in zip(reversed(range(len(finite))), finite, strict=True):
            orders.append(min(self.order, calls - sum(orders) - left) if high else 1)
        return orders

    def _steps(self, network: CountedModel, path: Sequence[Point], x: Tensor, noise: NoiseSource) -> Iterator[StepResult]:
        orders = self._orders(self.steps + len(path) - 1 - self._solved(path), [leaps(s, t) for s, t in pairwise(path)])
        for order, (s, t) in zip(orders, pairwise(path), strict=True):
            said = network(x, s)
            x = self._stride(network, s, t, x, said, order) if leaps(s, t) else said.mixed(t.alpha, t.sigma)
            yield StepResult(x, said, order)

    def _stride(self, network: CountedModel, s: Point, t: Point, x: Tensor, said: Answer, order: int) -> Tensor:
        """One step of an order."""
        known = [Known(s.lam, getattr(said, self.predicts))]
        for between in self._between(network.schedule, s, t, order):
            leap = Leap.between(s, between, self.predicts)
            there = leap.land(x, known, exact_moments(leap.h, len(known) - 1))
            known.append(Known(between.lam, getattr(network(there, between), self.predicts)))
        leap = Leap.between(s, t, self.predicts)
        if self.solver_type == "taylor" or order == 1:
            return leap.land(x, known, exact_moments(leap.h, order - 1))
        if order == 2:
            return leap.land(x, known, [math.expm1(leap.h) / 2])
        return leap.land(x, [known[0], known[2]], exact_moments(leap.h, 1))

    def _between(self, schedule: Schedule, s: Point, t: Point, order: int) -> list[Point]:
        """Where a step asks besides s: the places of the grid between its ends, on a reversed path from the earlier one on."""
        later, earlier = max(s.t, t.t), min(s.t, t.t)
        times = [time for time in self.grid.at if earlier < time < later] if isinstance(self.grid, Explicit) else []
        if len(times) != order - 1:
            grid = self.grid if isinstance(self.grid, RealGrid) else Linspace()
            times = grid.times(schedule, order, start=later, end=earlier)[1:-1].tolist()
        return [Point.at(schedule, time) for time in (times if s.t == later else times[::-1])]


@samplers.register("dpm-solver-multistep")
class MultistepDPMSolver(DPMSolver):
    """DPM-Solver that takes what the network predicted in earlier steps; every step costs one call.

    The first steps, of which fewer are known, are of lower order, and so is one that ends without noise.

    Attributes:
        lower_order_final: the last steps are of order 2 and 1 where there are fewer than ten, as in the authors' code.
    """

    grid: Grid = UniformGrid()
    lower_order_final: bool = True

    def _steps(self, network: CountedModel, path: Sequence[Point], x: Tensor, noise: NoiseSource) -> Iterator[StepResult]:
        solved = self._solved(path)
        lowers = self.lower_order_final and self.steps < 10
        known: deque[Known] = deque(maxlen=self.order)
        for i, (s, t) in enumerate(pairwise(path)):
            said = network(x, s)
            if math.isfinite(s.lam):
                known.appendleft(Known(s.lam, getattr(said, self.predicts)))
            if not leaps(s, t):
                x, order = said.mixed(t.alpha, t.sigma), 1
            else:
                order = min(len(known), solved - i) if lowers else len(known)
                leap = Leap.between(s, t, self.predicts)
                x = leap.land(x, list(known)[:order], self._moments(leap.h, order))
            yield StepResult(x, said, order)

    def _moments(self, h: float, order: int) -> list[float]:
        if self.solver_type == "taylor" or order == 1:
            return exact_moments(h, order - 1)
        return [math.expm1(h) / 2] if order == 2 else [h * phi(2, h), h * phi(3, h)]


samplers.preset("dpm-solver-1", SinglestepDPMSolver, "DPM-Solver-1, which is DDIM (Lu et al. 2022a)", order=1)
samplers.preset("dpm-solver-2", SinglestepDPMSolver, "DPM-Solver of order 2, singlestep (Lu et al. 2022a)", order=2)
samplers.preset("dpm-solver-3", SinglestepDPMSolver, "DPM-Solver of order 3, singlestep (Lu et al. 2022a)", order=3)
samplers.preset("dpm-solver-2m", MultistepDPMSolver, "DPM-Solver of order 2, multistep", order=2)
samplers.preset("dpm-solver-3m", MultistepDPMSolver, "DPM-Solver of order 3, multistep", order=3)
samplers.preset("dpm-solver++-2s", SinglestepDPMSolver, "DPM-Solver++ of order 2, singlestep (Lu et al. 2022b)", order=2, predicts="x0")
samplers.preset("dpm-solver++-3s", SinglestepDPMSolver, "DPM-Solver++ of order 3, singlestep (Lu et al. 2022b)", order=3, predicts="x0")
samplers.preset("dpm-solver++-2m", MultistepDPMSolver, "DPM-Solver++ of order 2, multistep (Lu et al. 2022b)", order=2, predicts="x0")
samplers.preset("dpm-solver++-3m", MultistepDPMSolver, "DPM-Solver++ of order 3, multistep (Lu et al. 2022b)", order=3, predicts="x0")
