"""Noise schedules: alpha(t) and sigma(t).

A schedule defines x_t = alpha_t x_0 + sigma_t eps (paper Eq. 1). Its log-SNR is lambda(t) = 2 log(alpha/sigma). Where it
preserves variance, alpha^2 + sigma^2 = 1, both follow from lambda,

    alpha = sqrt(sigmoid(lambda)),   sigma = sqrt(sigmoid(-lambda)),

and sigma leaves t = 0 as sqrt(2 |alpha'(0)| t): its slope is infinite unless alpha'(0) = 0 (paper theorem 3.1).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from etsdm.errors import PartError
from etsdm.registry import Part, schedules
from etsdm.schedules.times import as_times

__all__ = ["NO_SIGNAL", "Continuous", "Schedule", "Slope", "from_log_snr"]

# alpha/sigma below which single precision resolves a tenth of the signal at most: a solver's differences, over alpha, would be rounding.
NO_SIGNAL = 1e-6
FEW = 256  # times that Python compares faster than torch finds their extremes


class Slope(NamedTuple):
    """Slope of sigma at t = 0.

    Fields: value, d sigma/dt at 0, or where that is infinite the limit of sqrt(t) d sigma/dt; singular, whether it is infinite.
    On a singular schedule the optimal eps and v have an infinite slope in time at 0 (paper theorem 3.1).
    """

    value: float
    singular: bool


class Schedule(Part, family=schedules):
    """Noise schedule alpha(t), sigma(t), in float64 for every input dtype.

    Times are in the schedule's own unit: 0..T-1 for discrete schedules, where non-integers interpolate log-SNR, and the
    interval `domain` for continuous ones. Every method takes a number, an array or a tensor of any shape and returns a float64 tensor of
    that shape, on the tensor's device; times outside `domain` raise ValueError (checked on the CPU only, where it needs no
    synchronisation).

    Attributes:
        is_discrete: whether the times of training and sampling are the integers 0..T-1.
        variance_preserving: whether alpha^2 + sigma^2 = 1.
        time_is_noise_level: whether t is sigma/alpha itself.
    """

    is_discrete: ClassVar[bool] = False
    variance_preserving: ClassVar[bool] = True
    time_is_noise_level: ClassVar[bool] = False

    @property
    @abstractmethod
    def horizon(self) -> float:
        """The paper's T: the number of timesteps of a discrete schedule, the last time of a continuous one."""

    @property
    def t_label(self) -> str:
        """Name of the time on the axis of a figure."""
        return "timestep t" if self.is_discrete else "noise level sigma" if self.time_is_noise_level else "time t"

    @property
    def step(self) -> float:
        """One step in the schedule's unit: 1 for a discrete schedule, a thousandth of the horizon for a continuous one."""
        return 1.0 if self.is_discrete else self.horizon / 1000

    @property
    @abstractmethod
    def domain(self) -> tuple[float, float]:
        """Closed interval of times on which the schedule is defined."""

    @property
    def t_min(self) -> float:
        """Smallest time at which samplers evaluate the network: the first of the domain, or one `step` later if sigma is 0 there."""
        low = self.domain[0]
        return low if self.sigma(low) > 0 else low + self.step

    def has_signal(self, t: float) -> bool:
        """Whether single precision resolves the signal at a time; where not, samplers take alpha for 0."""
        alpha, sigma = self.alpha_sigma(t)
        return alpha.item() > NO_SIGNAL * sigma.item()

    def refuse_lost_signal(self) -> None:
        """Raises PartError if more times than the last have no signal."""
        low, high = self.domain
        if high - self.step > low and not self.has_signal(high - self.step):
            lost = self.t_of_log_snr(2 * math.log(NO_SIGNAL)).item()
            message = f"{self.type_name!r} has no signal from t = {lost:.4g} on, alpha / sigma < {NO_SIGNAL:g}, and ends at {high:g}"
            raise PartError("schedule", f"{message}; give less noise, as by a smaller last beta or fewer timesteps")

    @abstractmethod
    def slope_at_zero(self) -> Slope:
        """d sigma/dt at t = 0, or the coefficient of its singularity; of a discrete schedule, that of its continuous limit."""

    @abstractmethod
    def _alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma at times that are float64 and inside the domain."""

    def _alpha_sigma_of_number(self, t: float) -> tuple[Tensor, Tensor]:
        """alpha and sigma at one number inside the domain; a fast path for samplers."""
        return self._alpha_sigma(torch.tensor(t, dtype=torch.float64))

    @abstractmethod
    def _log_snr(self, t: Tensor) -> Tensor:
        """lambda at times that are float64 and inside the domain."""

    @abstractmethod
    def _t_of_log_snr(self, log_snr: Tensor) -> Tensor:
        """Inverse of `_log_snr`; for values beyond the ends, infinite ones too, a time at or beyond that end."""

    @abstractmethod
    def _beta(self, t: Tensor) -> Tensor:
        """beta at times that are float64 and inside the domain."""

    def alpha_sigma(self, t: Tensor | float) -> tuple[Tensor, Tensor]:
        """alpha(t) and sigma(t) in one computation; on the CPU for a number."""
        if not isinstance(t, (float, int)):
            return self._alpha_sigma(self._times(t))
        self._refuse_outside(t, t)
        return self._alpha_sigma_of_number(t)

    def alpha(self, t: Tensor | float) -> Tensor:
        """Signal coefficient alpha(t)."""
        return self.alpha_sigma(t)[0]

    def sigma(self, t: Tensor | float) -> Tensor:
        """Noise standard deviation sigma(t)."""
        return self.alpha_sigma(t)[1]

    def alpha_bar(self, t: Tensor | float) -> Tensor:
        """alpha(t)^2, the `alphas_cumprod` of DDPM code."""
        return self.alpha(t).square()

    def beta(self, t: Tensor | float) -> Tensor:
        """beta(t): of a discrete schedule 1 - alpha_bar(t)/alpha_bar(t-1), of a continuous one -2 d log(alpha)/dt (paper Eq. 2)."""
        return self._beta(self._times(t))

    def log_snr(self, t: Tensor | float) -> Tensor:
        """lambda(t) = log(alpha^2 / sigma^2), decreasing in t."""
        return self._log_snr(self._times(t))

    def check_times(self, t: Tensor | float) -> None:
        """Raises PartError if times are outside `domain` (checked on the CPU only)."""
        self._refuse_outside_domain(as_times(t))

    def snr(self, t: Tensor | float) -> Tensor:
        """Signal-to-noise ratio alpha(t)^2 / sigma(t)^2."""
        return self.log_snr(t).exp()

    def t_of_log_snr(self, log_snr: Tensor | float) -> Tensor:
        """Inverse of `log_snr`, clamped to the domain."""
        log_snr = as_times(log_snr).to(torch.float64)
        return self._t_of_log_snr(log_snr).clamp(*self.domain)

    def _times(self, t: Tensor | float) -> Tensor:
        t = as_times(t)
        self._refuse_outside_domain(t)
        return t.to(torch.float64)

    def _refuse_outside_domain(self, t: Tensor) -> None:
        if not t.is_cpu or torch.compiler.is_compiling() or not (count := t.numel()):
            return
        if t.ndim == 1 and count <= FEW:
            low, high = self.domain
            if all([low <= time <= high for time in t.tolist()]):  # noqa: C419  a generator takes twice as long
                return
        smallest, largest = torch.aminmax(t.detach().to(torch.float64))
        self._refuse_outside(smallest.item(), largest.item())

    def _refuse_outside(self, smallest: float, largest: float) -> None:
        low, high = self.domain
        if not (smallest >= low and largest <= high):
            found = smallest if not smallest >= low else largest
            raise PartError("t", f"{found:.12g} is outside the times of schedule {self.type_name!r}; give t in [{low:g}, {high:g}]")


class Continuous(Schedule):
    """A schedule in closed form, on [0, 1] unless a subclass overrides `domain`."""

    @property
    def horizon(self) -> float:
        """Last time of the domain."""
        return self.domain[1]

    @property
    def domain(self) -> tuple[float, float]:
        """[0, 1]."""
        return 0.0, 1.0

    @abstractmethod
    def _rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """d alpha/dt and d (sigma^2)/dt at times that are float64 and inside the domain."""

    def rates(self, t: Tensor | float) -> tuple[Tensor, Tensor]:
        """d alpha/dt and d (sigma^2)/dt (paper Eq. 2: f = d log(alpha)/dt, g^2 = d(sigma^2)/dt - 2 f sigma^2).

        At t = 0 both are finite where d sigma/dt is not.
        """
        return self._rates(self._times(t))

    def _beta(self, t: Tensor) -> Tensor:
        return -2 * self._rates(t)[0] / self._alpha_sigma(t)[0]

    def _log_snr(self, t: Tensor) -> Tensor:
        alpha, sigma = self._alpha_sigma(t)
        return 2 * (alpha.log() - sigma.log())

    def _alpha_above_last(self, t: Tensor) -> Tensor:
        """alpha(t) - alpha(T); overridden where a closed form keeps the digits of the difference near T."""
        return self._alpha_sigma(t)[0] - self.alpha(self.horizon).item()


def from_log_snr(log_snr: Tensor) -> tuple[Tensor, Tensor]:
    """alpha and sigma of a variance-preserving schedule from lambda; any shape, same shape."""
    return log_snr.sigmoid().sqrt(), (-log_snr).sigmoid().sqrt()
