"""Samplers: from noise to images, as iterators over steps.

A sampler lays out a path, points of decreasing time of which the last is the clean image or `t_end`, and goes from each point to
the next. The update is its `_steps`; calling the network, counting the calls and clipping x0 are the same for all.

    x_t = alpha_t x0 + sigma_t eps,   lambda_t = log(alpha_t / sigma_t), half of log-SNR
"""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from pydantic import Field, NonNegativeFloat, ValidationError, model_validator
from torch import Tensor

from etsdm.denoisers.config import DenoiserConfig, ScheduleConfig
from etsdm.denoisers.protocol import DenoiserLike
from etsdm.denoisers.time_point import CLEAN, TimePoint
from etsdm.errors import PartError
from etsdm.grids import Grid, Linspace
from etsdm.grids.base import timesteps_until
from etsdm.randomness import SampleNoise
from etsdm.registry import Part, field_error, samplers, schedules
from etsdm.registry.counts import Steps
from etsdm.samplers.ends import warn_of_noise_left, warn_of_noised_images, warn_of_pure_noise
from etsdm.samplers.model import CountedModel
from etsdm.samplers.plan import Plan, plan_of
from etsdm.samplers.step import NoiseSource, Step, StepResult
from etsdm.schedules import Schedule

__all__ = ["Sampler"]


class Sampler(Part, family=samplers):
    """A way from noise to images.

    Attributes:
        steps: how many; None, where a sampler allows that, for every timestep up to the start.
        grid: where it steps.
        t_end: the time at which it ends; None for the clean image.
        denoise_to_zero: goes on from t_end to the clean image, by one more call of the network, unless t_end is clean already.
        clip_x0: predictions of x0 are clipped to [-1, 1]; None for wherever clean x lie in [-1, 1], as images do and latents do not.
        dynamic_threshold: the quantile of |x0| to which they are clipped instead, if it is above 1, and scaled.
    """

    steps: Steps | None = None
    grid: Grid = Linspace()
    t_end: NonNegativeFloat | None = None
    denoise_to_zero: bool = False
    clip_x0: bool | None = False
    dynamic_threshold: float | None = Field(None, gt=0, le=1)

    @model_validator(mode="after")
    def _ends_once(self) -> Sampler:
        if self.denoise_to_zero and self.t_end is None:
            raise field_error("Sampler", ("denoise_to_zero",), "is set without t_end, so the clean image is the end already; give t_end")
        return self

    def check(self, denoiser: DenoiserConfig) -> None:
        """Checks the sampler against a denoiser or its spec, by laying out its path.

        Raises:
            PartError: on the field of the sampler that does not suit the schedule or the network.

        Warns:
            UserWarning: as `warn_of_ends`.
        """
        try:
            self.warn_of_ends(denoiser)
        except PartError as error:
            if error.path[0] in type(self).model_fields:
                raise
            raise PartError("grid", str(error)) from None  # without a start of its own, the path is the grid's

    @abstractmethod
    def _steps(self, model: CountedModel, path: Sequence[TimePoint], x: Tensor, noise: NoiseSource) -> Iterator[StepResult]:
        """Goes along the path, from x at its first point; one `StepResult` for each step. Gradients are off."""

    def _times(self, schedule: Schedule, start: float | None) -> Tensor:
        """The times at which steps begin, and t_end where it is set."""
        return self.grid.times(schedule, self.steps or timesteps_until(schedule, start), start=start, end=self.t_end)

    def times(self, denoiser: DenoiserConfig, start: float | None = None) -> Tensor:
        """The times at which steps begin, and t_end where it is set.

        Where alpha = 0 noise prediction does not determine x0. A denoiser that has it all the same (`allow_eps_at_zero_snr`)
        starts one step later: at T-2 of a discrete schedule, a thousandth of the horizon before the end of a continuous one.

        Args:
            denoiser: a denoiser, or its spec.
            start: where to start, the schedule's last time by default.

        Returns:
            Decreasing, float64, (n,), or (n + 1,) with a t_end.

        Raises:
            PartError: the grid does not suit the schedule, the number of steps or the ends; the schedule loses its signal too early.

        Warns:
            UserWarning: the first time was moved.
        """
        schedule = denoiser.schedule
        schedule.refuse_lost_signal()
        try:
            times = self._times(schedule, start)
        except PartError as error:
            if error.path[0] in type(self.grid).model_fields:
                raise PartError(("grid", *error.path), error.message) from None
            raise
        if not denoiser.target.needs_signal or schedule.has_signal(times[0].item()):
            return times
        moved = times[:1] - schedule.step
        message = f"alpha = 0 at t = {times[0]:g}, where target {denoiser.target.type_name!r} does not give x0"
        warnings.warn(f"{message}: sampling starts from t = {moved[0]:g}", stacklevel=2)
        return torch.cat([moved, times[1:][times[1:] < moved]])

    def path(self, denoiser: DenoiserConfig, start: float | None = None) -> list[TimePoint]:
        """The points that a trajectory passes, from noise on; arguments and refusals as those of `times`."""
        points = TimePoint.path(denoiser, self.times(denoiser, start))
        while len(points) > 1 and points[1].alpha == 0:
            del points[0]  # between two times without signal nothing changes
        ends = points[-1].sigma == 0 or (self.t_end is not None and not self.denoise_to_zero)
        if ends and len(points) < 2:
            message = f"t = {points[0]:g} is where it ends, so that there is no step; give a later start or an earlier t_end"
            raise PartError("start", message)
        return points if ends else [*points, CLEAN]

    def warn_of_ends(self, denoiser: DenoiserConfig, start: float | None = None, *, from_images: bool = False) -> None:
        """Warns if x at the path's first point is not what sampling starts from, or if the images are not clean at its end.

        Args:
            denoiser: a denoiser, or its spec.
            start: where to start, the schedule's last time by default.
            from_images: the start is images noised to `start`; otherwise it is pure noise.
        """
        path = self.path(denoiser, start)
        if not from_images:
            warn_of_pure_noise(denoiser, self.grid.type_name, path[0], start)
        elif start is not None:
            warn_of_noised_images(denoiser, self.grid.type_name, path[0], start)
        if path[-1] is not CLEAN:
            warn_of_noise_left(path[-1], self.noise_left(path))

    def noise_left(self, path: Sequence[TimePoint]) -> float:
        """Standard deviation of the noise in the images after a path, sigma/alpha at its end; 0 for the clean image."""
        return math.exp(-path[-1].lam)

    def _solved(self, path: Sequence[TimePoint]) -> int:
        """Steps of a path before the one that `denoise_to_zero` adds, if it does."""
        return len(path) - 1 - (self.denoise_to_zero and path[-1] is CLEAN)

    def with_steps(self, steps: int) -> Sampler:
        """This sampler with another number of steps. Raises: PartError if it takes no such number."""
        try:
            return self.model_copy(update={"steps": steps})
        except ValidationError:
            raise PartError("steps", f"{steps!r} does not suit sampler {self.type_name!r}; give 1 or more") from None

    def plan(
        self, denoiser: DenoiserConfig | Schedule | str | Mapping[str, Any], steps: int | None = None, *, start: float | None = None
    ) -> Plan:
        """Every call of the network that sampling makes, recorded on data of one element.

        Args:
            denoiser: a denoiser, or its spec; or a schedule alone, also by name or as a mapping, which is then taken with target `eps`
                and no condition map.
            steps: another number of steps than the sampler's own.
            start: where to start, the schedule's last time by default.

        Raises:
            PartError: as `with_steps` and `times`.

        Warns:
            UserWarning: as `times` and `warn_of_ends`.
        """
        sampler = self if steps is None else self.with_steps(steps)
        config = ScheduleConfig(schedules.make(denoiser)) if isinstance(denoiser, (Schedule, str, Mapping)) else denoiser

        def trajectory(zero: DenoiserLike, noise: Tensor, step_noise: NoiseSource) -> Iterator[Step]:
            return sampler.trajectory(zero, noise, step_noise, start=start)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the trajectory warns
            path = sampler.path(config, start)
        sampler.warn_of_ends(config, start, from_images=start is not None)
        end = None if path[-1] is CLEAN else float(path[-1])
        return plan_of(config, trajectory, end, sampler.noise_left(path))

    def trajectory(
        self, denoiser: DenoiserLike, noise: Tensor, step_noise: NoiseSource | None = None, *, start: float | None = None, **cond: Tensor
    ) -> Iterator[Step]:
        """Yields each step from noise to images.

        Args:
            denoiser: trained, exact or wrapped.
            noise: the start, (B, C, H, W), in the dtype and on the device of the images: x at the path's first point.
                Where the schedule's last sigma is 1, as those that preserve variance have about, that is standard normal noise.
            step_noise: noise for stochastic steps; by default drawn from the stream "sampling/steps" of seed 0.
            start: where to start, the schedule's last time by default.
            **cond: further inputs of the network, for example labels `y` of shape (B,).

        Yields:
            `Step`s; the images are `x` of the last.
        """
        source = step_noise or SampleNoise(0, "sampling/steps", range(len(noise)))
        path = self.path(denoiser, start)
        model = CountedModel(denoiser, cond, clip_x0=self.clip_x0, dynamic_threshold=self.dynamic_threshold)
        # A copy: x0 of the first step is computed from it when it is read, whatever has become of the caller's tensor.
        results = self._steps(model, path, noise.detach().clone(), source)
        without_gradients = torch.no_grad()
        for i, t in enumerate(path[:-1], start=1):
            # Only while a step is computed: a caller's own code between steps keeps its own mode.
            with without_gradients:
                result = next(results)
            yield Step(i, len(path) - 1, float(t), result.x, result.prediction, model.nfe, result.order)
