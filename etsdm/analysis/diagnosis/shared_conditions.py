"""Shared conditions for a denoiser as it is: the same weights under another condition map."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from etsdm.condition_maps import ETSDM, ConditionMap
from etsdm.denoisers.denoiser import Denoiser
from etsdm.denoisers.prediction import Prediction
from etsdm.denoisers.protocol import DenoiserLike
from etsdm.denoisers.wrappers import DenoiserWrapper
from etsdm.losses import TimeSampler, Uniform
from etsdm.randomness import generator
from etsdm.registry import condition_maps
from etsdm.schedules import Schedule

__all__ = ["SharedConditions", "proposed_map", "share_of_updates"]

SHARE, SUB_INTERVALS = 10, 5  # T / t_tilde and n of the paper
DRAWN_BATCHES, DRAWN_EACH = 512, 128  # batches of training times; some samplers draw the times of a batch together
TOLERANCE = 1e-9  # of the horizon: times that differ by less are equal up to rounding


class SharedConditions(DenoiserWrapper):
    """A denoiser that receives the condition of f(t) in place of that of t, its weights unchanged.

    Args:
        denoiser: trained, exact, or a wrapper itself.
        sharing: f, a map from times to times, such as `ETSDM`.
    """

    def __init__(self, denoiser: DenoiserLike, sharing: ConditionMap) -> None:
        super().__init__(denoiser)
        self.sharing = sharing

    @property
    def learns_variance(self) -> bool:
        """False: predictions are those of the output alone."""
        return False

    def condition(self, t: Tensor) -> Tensor:
        """The value that the network receives as time for f(t), same shape."""
        return self.denoiser.condition(self.sharing(t, self.schedule))

    def output(self, x: Tensor, t: Tensor | float, *, condition_t: Tensor | None = None, **cond: Tensor) -> Tensor:
        """F at (x, t) under the condition of f(t), or of f(condition_t); see `Denoiser.output`."""
        time = condition_t if condition_t is not None else t if isinstance(t, Tensor) else torch.tensor(float(t), dtype=torch.float64)
        return self.denoiser.output(x, t, condition_t=self.sharing(time, self.schedule), **cond)

    def predict(self, x: Tensor, t: Tensor | float, **cond: Tensor) -> Prediction:
        """x0, eps, v and score at (x, t) under the condition of f(t)."""
        return Prediction.from_output(self, x, t, self.output(x, t, **cond))


def proposed_map(schedule: Schedule) -> ConditionMap:
    """The paper's E-TSDM for a schedule: five sub-intervals in the first tenth of its times, or of noise levels as small as theirs."""
    if schedule.time_is_noise_level:
        proposed: ConditionMap = condition_maps.create("edm-vp-equivalent")
        return proposed
    return ETSDM(t_tilde=schedule.horizon / SHARE, n=SUB_INTERVALS)


def share_of_updates(time_sampler: TimeSampler, schedule: Schedule, end: float) -> float:
    """Share of training times before `end`; exact for the uniform distribution, of 65,536 draws for others."""
    low, high = schedule.domain
    if isinstance(time_sampler, Uniform):
        if schedule.is_discrete:
            return min(1.0, math.ceil(end - TOLERANCE * schedule.horizon) / schedule.horizon)
        return min(1.0, (end - low) / (high - low))
    streams = (generator(0, "diagnosis/times", batch) for batch in range(DRAWN_BATCHES))
    drawn = torch.cat([time_sampler.draw(schedule, DRAWN_EACH, stream) for stream in streams])
    return (drawn < end).double().mean().item()


def precision_of(denoiser: DenoiserLike) -> torch.dtype:
    """The dtype in which a denoiser computes: that of its network's first weight, float64 for an exact one."""
    inner = denoiser
    while isinstance(inner, DenoiserWrapper):
        inner = inner.denoiser
    if not isinstance(inner, Denoiser):
        return torch.float64
    return next((weight.dtype for weight in inner.backbone.parameters() if weight.is_floating_point()), torch.float32)
