"""Cosine schedules shifted to the image size (Hoogeboom et al. 2023, simple diffusion).

The SNR of a cosine schedule, meant for 64 pixels, is multiplied by (64/d)^2, because averaging the pixels of a larger image also
averages the noise. With r = d/64 and the unshifted alpha_c, sigma_c,

    lambda = lambda_c - 2 log r,   alpha = alpha_c/N,   sigma = r sigma_c/N,   N^2 = alpha_c^2 + r^2 sigma_c^2,
    d alpha/dt = (d alpha_c/dt) r^2/N^3.

`cosine-shift` keeps the offset s of the cosine schedule and with it the singularity; the schedule of simple diffusion has no offset.
"""

from __future__ import annotations

import math

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor

from etsdm.registry import schedules
from etsdm.registry.counts import ImageSize, Timesteps
from etsdm.schedules.base import Continuous, Slope
from etsdm.schedules.cosine import Cosine, CosineContinuous
from etsdm.schedules.discrete import Discrete

__all__ = ["CosineShift", "CosineShiftContinuous", "CosineShiftSimpleContinuous"]


@schedules.register("cosine-shift")
class CosineShift(Discrete):
    """The SNR of `cosine` times (64/image_size)^2 (Hoogeboom et al. 2023).

    Attributes:
        timesteps, s, max_beta: those of `cosine`, before the shift.
        image_size: side length d of the images in pixels.
    """

    timesteps: Timesteps = 1000
    s: float = Field(0.008, ge=0)
    max_beta: float = Field(0.999, gt=0, lt=1)
    image_size: ImageSize = 256

    @property
    def log_snrs(self) -> Tensor:
        """lambda of `cosine` - 2 log(d/64), float64, (T,)."""
        cosine = Cosine(timesteps=self.timesteps, s=self.s, max_beta=self.max_beta)
        return cosine.log_snrs - 2 * math.log(self.image_size / 64)

    @property
    def continuous(self) -> CosineShiftContinuous:
        """`cosine-shift-continuous` with the same offset and size; without clipping."""
        return CosineShiftContinuous(s=self.s, image_size=self.image_size)


schedules.preset("cosine-shift-simple", CosineShift, "cosine-shift without offset (Hoogeboom et al. 2023)", s=0.0)


@schedules.register("cosine-shift-continuous")
class CosineShiftContinuous(CosineContinuous):
    """The SNR of `cosine-continuous` times (64/image_size)^2 (Hoogeboom et al. 2023).

    Attributes:
        s: offset of the cosine schedule.
        image_size: side length d of the images in pixels.
    """

    image_size: ImageSize = 256

    @property
    def _ratio(self) -> float:
        return self.image_size / 64

    def _alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return _shifted(*super()._alpha_sigma(t), self._ratio)

    def _rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return _shifted_rates(super()._rates(t)[0], *super()._alpha_sigma(t), self._ratio)

    def _t_of_log_snr(self, log_snr: Tensor) -> Tensor:
        return super()._t_of_log_snr(log_snr + 2 * math.log(self._ratio))

    def slope_at_zero(self) -> Slope:
        """d/64 times the slope of the cosine schedule."""
        slope = super().slope_at_zero()
        return Slope(self._ratio * slope.value, slope.singular)


@schedules.register("cosine-shift-simple-continuous")
class CosineShiftSimpleContinuous(Continuous):
    """lambda = -2 log tan(pi t/2) - 2 log(image_size/64), never singular (Hoogeboom et al. 2023).

    Attributes:
        image_size: side length d of the images in pixels.
        log_snr_bound: None, or the upper bound of |lambda| before the shift (15 in simple diffusion); the angle then goes from
            atan(exp(-bound/2)) to pi/2 minus that, and sigma(0) > 0.
    """

    image_size: ImageSize = 256
    log_snr_bound: PositiveFloat | None = None

    @property
    def _ratio(self) -> float:
        return self.image_size / 64

    @property
    def _ends(self) -> tuple[float, float]:
        """Margin and span of the angle, which goes from margin at t = 0 to pi/2 - margin at t = 1."""
        margin = 0.0 if self.log_snr_bound is None else math.atan(math.exp(-self.log_snr_bound / 2))
        return margin, math.pi / 2 - 2 * margin

    def _circle(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine of the angle at t."""
        margin, span = self._ends
        return torch.sin(margin + (1 - t) * span), torch.sin(margin + t * span)

    def _alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return _shifted(*self._circle(t), self._ratio)

    def _rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        cos, sin = self._circle(t)
        return _shifted_rates(-self._ends[1] * sin, cos, sin, self._ratio)

    def _t_of_log_snr(self, log_snr: Tensor) -> Tensor:
        margin, span = self._ends
        return (torch.atan(torch.exp(-log_snr / 2) / self._ratio) - margin) / span

    def slope_at_zero(self) -> Slope:
        """pi/2 d/64, slightly less with a bound."""
        margin, span = self._ends
        cos, sin = math.cos(margin), self._ratio * math.sin(margin)
        return Slope(self._ratio * span * cos / math.hypot(cos, sin) ** 3, False)


def _shifted(alpha: Tensor, sigma: Tensor, ratio: float) -> tuple[Tensor, Tensor]:
    sigma = ratio * sigma
    norm = torch.hypot(alpha, sigma)
    return alpha / norm, sigma / norm


def _shifted_rates(rate: Tensor, alpha: Tensor, sigma: Tensor, ratio: float) -> tuple[Tensor, Tensor]:
    norm = torch.hypot(alpha, ratio * sigma)
    shifted = rate * ratio**2 / norm**3
    return shifted, -2 * shifted * alpha / norm
