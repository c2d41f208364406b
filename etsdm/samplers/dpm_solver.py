"""DPM-Solver and DPM-Solver++: exponential integrators of order 1 to 3, in single steps or from earlier steps.

A solver of order p uses p model outputs, noise prediction (DPM-Solver) or data prediction (DPM-Solver++): a singlestep one evaluates
them at points between s and t, a multistep one keeps those of the steps before. In the terms of
`etsdm.samplers.lambda_space`, `taylor` has the moments of the polynomial through them, M_1 = h phi_2(h) and M_2 = 2 h phi_3(h);
`dpmsolver`, the authors' default, has

    order 2                 M_1 = (e^h - 1)/2
    order 3, singlestep     M_1 = h phi_2(h), from the later of the two intermediate points alone
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

import torch
from pydantic import Field, model_validator
from torch import Tensor

from etsdm.denoisers.prediction import Prediction
from etsdm.denoisers.time_point import TimePoint
from etsdm.errors import PartError
from etsdm.grids import Explicit, Grid, Linspace, LogSNRGrid, UniformGrid
from etsdm.grids.base import RealGrid
from etsdm.grids.timesteps import TimestepGrid
from etsdm.registry import field_error, samplers
from etsdm.registry.counts import Steps
from etsdm.samplers.base import Sampler
from etsdm.samplers.lambda_space import ExponentialStep, ModelValue, exact_moments, has_finite_step, phi
from etsdm.samplers.model import CountedModel
from etsdm.samplers.step import NoiseSource, Predicted, StepResult
from etsdm.schedules import Schedule

__all__ = ["MultistepDPMSolver", "SinglestepDPMSolver", "singlestep_count", "singlestep_orders"]


def singlestep_count(nfe: int, order: int) -> int:
    """Number of steps of up to `order` in which the authors spend nfe calls: nfe // 3 + 1 for order 3, else nfe / order, rounded up."""
    if not nfe:
        return 0
    return nfe // 3 + 1 if order == 3 else math.ceil(nfe / order)


def singlestep_orders(nfe: int, order: int, finite: Sequence[bool]) -> list[int]:
    """Orders of singlestep DPM-Solver's steps, which are also their numbers of calls (the authors' `get_orders_and_timesteps`).

    Of finite steps: 3, ..., 3, then 2, 1 or 1 or 2, so that they add up to nfe; for order 2 2, ..., 2, and 1 where nfe is odd.

    Args:
        nfe: calls in all.
        order: the highest.
        finite: for each step whether lambda rises by a finite amount; if not, its order is 1.
    """
    orders: list[int] = []
    for left, high in zip(reversed(range(len(finite))), finite, strict=True):
        orders.append(min(order, nfe - sum(orders) - left) if high else 1)
    return orders


class DPMSolver(Sampler):
    """The fields of both kinds.

    Attributes:
        order: 1, which is DDIM, to 3.
        predicts: the model output that is interpolated: eps (DPM-Solver) or x0 (DPM-Solver++).
        solver_type: which moments; see the module's beginning.
    """

    steps: Steps = 20
    order: int = Field(3, ge=1, le=3)
    predicts: Predicted = "eps"
    solver_type: Literal["dpmsolver", "taylor"] = "dpmsolver"


@samplers.register("dpm-solver-singlestep")
class SinglestepDPMSolver(DPMSolver):
    """DPM-Solver whose steps are independent of each other; a step of order p costs p calls of the network.

    `steps` counts calls, as in the authors' code ("DPM-Solver-fast"): as many steps of `order` as fit, then one or two of lower order
    for the rest, so that 20 calls of order 3 are 6 x 3 + 2, and 50 are 16 x 3 + 2. On the grid `log-snr` all steps are of the
    same length and the points between divide them evenly; on others each call has a place of the grid. A step without signal at
    its start or noise at its end is of first order and costs one call.

    Attributes:
        t_end: None for the clean image, to which the last of the calls goes from the schedule's first time with noise: timestep 0 on a
            discrete schedule, the authors' t = 1/T, and mostly 0.001 on a continuous one. The authors' code ends at that time, which 0
            stands for, and leaves its noise in the images.
        denoise_to_zero: as for all samplers; that call comes on top of `steps`.
    """

    grid: Grid = LogSNRGrid()

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
        before = int(not schedule.has_signal(schedule.domain[1] if start is None else start))
        after = int(end is None)
        solved = max(self.steps - before - after, 0)
        # A single call from no signal to the clean image is one step.
        finite = [*[False] * before, *[True] * singlestep_count(solved, self.order), *[False] * after][: self.steps]
        if isinstance(self.grid, LogSNRGrid):
            return self.grid.times(schedule, len(finite), start=start, end=end)
        times = self.grid.times(schedule, self.steps, start=start, end=end)
        return times[[k for k in accumulate(singlestep_orders(self.steps, self.order, finite), initial=0) if k < len(times)]]

    def _steps(self, model: CountedModel, path: Sequence[TimePoint], x: Tensor, noise: NoiseSource) -> Iterator[StepResult]:
        nfe = self.steps + len(path) - 1 - self._solved(path)
        orders = singlestep_orders(nfe, self.order, [has_finite_step(s, t) for s, t in pairwise(path)])
        schedule = model.denoiser.schedule
        times = [self._between(schedule, s, t, order) for order, (s, t) in zip(orders, pairwise(path), strict=True)]
        points = iter(model.points(torch.tensor([time for of_step in times for time in of_step], dtype=torch.float64)))
        for of_step, order, (s, t) in zip(times, orders, pairwise(path), strict=True):
            stages = [next(points) for _ in of_step]
            prediction = model(x, s)
            finite = has_finite_step(s, t)
            x = self._step(model, s, t, stages, x, prediction) if finite else prediction.combine(x0=t.alpha, eps=t.sigma)
            yield StepResult(x, prediction, order)

    def _step(
        self, model: CountedModel, s: TimePoint, t: TimePoint, stages: Sequence[TimePoint], x: Tensor, prediction: Prediction
    ) -> Tensor:
        """One step, of an order one above the number of intermediate points."""
        values, order = [ModelValue(s.lam, getattr(prediction, self.predicts))], len(stages) + 1
        for between in stages:
            step = ExponentialStep.between(s, between, self.predicts)
            x_between = step.apply(x, values, exact_moments(step.h, len(values) - 1))
            values.append(ModelValue(between.lam, getattr(model(x_between, between), self.predicts)))
        step = ExponentialStep.between(s, t, self.predicts)
        if self.solver_type == "taylor" or order == 1:
            return step.apply(x, values, exact_moments(step.h, order - 1))
        if order == 2:
            # singlestep_dpm_solver_second_update, r1 = 1/2: sigma_t (0.5 / r1) phi_1 (model_s1 - model_s)
            return step.apply(x, values, [math.expm1(step.h) / 2])
        # singlestep_dpm_solver_third_update, r2 = 2/3: sigma_t (1 / r2) phi_2 (model_s2 - model_s)
        return step.apply(x, [values[0], values[2]], exact_moments(step.h, 1))

    def _between(self, schedule: Schedule, s: TimePoint, t: TimePoint, order: int) -> list[float]:
        """Intermediate times of a step: those of the grid between its ends, on a reversed path from the earlier one on."""
        if order == 1:
            return []
        later, earlier = max(s, t), min(s, t)
        times = [time for time in self.grid.at if earlier < time < later] if isinstance(self.grid, Explicit) else []
        if len(times) != order - 1:
            grid = self.grid if isinstance(self.grid, RealGrid) else Linspace()
            times = grid.times(schedule, order, start=float(later), end=float(earlier))[1:-1].tolist()
        return times if s == later else times[::-1]


@samplers.register("dpm-solver-multistep")
class MultistepDPMSolver(DPMSolver):
    """DPM-Solver from the model outputs of earlier steps; every step costs one call.

    The first steps, with fewer outputs, are of lower order, and so is one that ends without noise.

    Attributes:
        lower_order_final: the last steps are of order 2 and 1 where there are fewer than ten, as in the authors' code.
    """

    grid: Grid = UniformGrid()
    lower_order_final: bool = True

    def _steps(self, model: CountedModel, path: Sequence[TimePoint], x: Tensor, noise: NoiseSource) -> Iterator[StepResult]:
        solved = self._solved(path)
        lowers = self.lower_order_final and self.steps < 10
        history: deque[ModelValue] = deque(maxlen=self.order)
        for i, (s, t) in enumerate(pairwise(path)):
            prediction = model(x, s)
            if math.isfinite(s.lam):
                history.appendleft(ModelValue(s.lam, getattr(prediction, self.predicts)))
            if not has_finite_step(s, t):
                x, order = prediction.combine(x0=t.alpha, eps=t.sigma), 1
            else:
                order = min(len(history), solved - i) if lowers else len(history)
                step = ExponentialStep.between(s, t, self.predicts)
                x = step.apply(x, list(history)[:order], self._moments(step.h, order))
            yield StepResult(x, prediction, order)

    def _moments(self, h: float, order: int) -> list[float]:
        if self.solver_type == "taylor" or order == 1:
            return exact_moments(h, order - 1)
        # multistep_dpm_solver_second_update: 0.5 phi_1 D1_0;  third: phi_2 D1 and phi_3 D2
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
