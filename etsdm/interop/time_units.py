"""Units of the timestep argument of networks, and their conversion to the time of a condition map and back.

A condition map works in time, which rises with the noise from 0 to the horizon, 1000 by default, or in the noise level sigma:

    timesteps               t                     DDPM, Stable Diffusion, flow matching with sigma * 1000
    unit-interval           t / horizon           Flux, Qwen-Image
    reversed-timesteps      horizon - t           Mochi
    reversed-unit-interval  1 - t / horizon       Lumina, Z-Image
    sigma                   sigma                 k-diffusion
    log-sigma               ln(sigma) / 4         EDM, Stable Video Diffusion
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["HORIZON", "UNITS", "TimeUnit"]

HORIZON = 1000.0  # time of pure noise, unless another one is given
TOLERANCE_ULPS = 4  # of an argument that differs from an edge by rounding


class TimeUnit(NamedTuple):
    """Conversion between the argument of a network and the time, or noise level, of a condition map.

    Attributes:
        formula: the argument as a formula, for messages.
        time: (argument, horizon) -> time; both floating, same shape.
        argument: (time, horizon) -> argument.
        is_noise_level: whether the time is sigma.
    """

    formula: str
    time: Callable[[Tensor, float], Tensor]
    argument: Callable[[Tensor, float], Tensor]
    is_noise_level: bool = False


def _as_it_is(value: Tensor, horizon: float) -> Tensor:
    return value


def _ulps(value: Tensor) -> float:
    return TOLERANCE_ULPS * torch.finfo(value.dtype).eps


# Near the horizon, where a reversed argument has the times near 0, one unit in the last place is that of the horizon; the map's own
# tolerance is that of its last edge. An argument that should be an edge is moved to the side that belongs to it.
UNITS = {
    "timesteps": TimeUnit("t", _as_it_is, _as_it_is),
    "unit-interval": TimeUnit("t / horizon", lambda a, horizon: a * horizon, lambda t, horizon: t / horizon),
    "reversed-timesteps": TimeUnit("horizon - t", lambda a, horizon: horizon - a + _ulps(a) * horizon, lambda t, horizon: horizon - t),
    "reversed-unit-interval": TimeUnit(
        "1 - t / horizon", lambda a, horizon: (1 - a + _ulps(a)) * horizon, lambda t, horizon: (horizon - t) / horizon
    ),
    "sigma": TimeUnit("sigma", _as_it_is, _as_it_is, is_noise_level=True),
    "log-sigma": TimeUnit(
        "ln(sigma) / 4", lambda a, horizon: (4 * a).exp() * (1 + 4 * _ulps(a)), lambda sigma, horizon: sigma.log() / 4, is_noise_level=True
    ),
}
