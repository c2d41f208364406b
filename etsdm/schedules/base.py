"""Noise schedules: alpha and sigma as functions of time.

A schedule defines x_t = alpha_t x_0 + sigma_t eps (paper Eq. 1). It is given by its log-SNR lambda(t) = 2 log(alpha/sigma); a
variance-preserving one (alpha^2 + sigma^2 = 1) follows from it as

    alpha = sqrt(sigmoid(lambda)),   sigma = sqrt(sigmoid(-lambda)),

which keeps all digits of sigma near t = 0, where 1 - alpha^2 would lose them.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from typing import ClassVar

import torch
from pydantic import PositiveInt
from torch import Tensor

from etsdm.registry import Part, schedules

__all__ = ["Discrete", "Schedule"]


class Schedule(Part, family=schedules):
    """alpha(t) and sigma(t), in float64 whatever comes in.

    Times are in the schedule's own unit: 0..T-1 for discrete schedules, where non-integers interpolate log-SNR, and (0, 1]
    for continuous ones. Every method takes a number or a tensor of any shape and returns a float64 tensor of that shape, on
    the tensor's device; times outside `domain` raise ValueError (checked where it costs no synchronisation: on the CPU).
    """

    is_discrete: ClassVar[bool] = False

    @property
    @abstractmethod
    def horizon(self) -> float:
        """The paper's T: the number of timesteps of a discrete schedule, 1 for a continuous one."""

    @property
    @abstractmethod
    def domain(self) -> tuple[float, float]:
        """The closed interval of times on which the schedule is defined."""

    @abstractmethod
    def _log_snr(self, t: Tensor) -> Tensor:
        """lambda at times that are float64 and inside the domain."""

    @abstractmethod
    def t_of_log_snr(self, log_snr: Tensor | float) -> Tensor:
        """The time at which log-SNR has this value; values beyond the ends give the ends."""

    def log_snr(self, t: Tensor | float) -> Tensor:
        """lambda(t) = log(alpha^2 / sigma^2), decreasing in t."""
        return self._log_snr(self._times(t))

    def alpha_sigma(self, t: Tensor | float) -> tuple[Tensor, Tensor]:
        """alpha(t) and sigma(t), for the price of one."""
        log_snr = self.log_snr(t)
        return log_snr.sigmoid().sqrt(), (-log_snr).sigmoid().sqrt()

    def alpha(self, t: Tensor | float) -> Tensor:
        """Signal coefficient alpha(t)."""
        return self.alpha_sigma(t)[0]

    def sigma(self, t: Tensor | float) -> Tensor:
        """Noise standard deviation sigma(t)."""
        return self.alpha_sigma(t)[1]

    def alpha_bar(self, t: Tensor | float) -> Tensor:
        """alpha(t)^2, the `alphas_cumprod` of DDPM code."""
        return self.log_snr(t).sigmoid()

    def snr(self, t: Tensor | float) -> Tensor:
        """Signal-to-noise ratio alpha(t)^2 / sigma(t)^2."""
        return self.log_snr(t).exp()

    def _times(self, t: Tensor | float) -> Tensor:
        t = torch.as_tensor(t, dtype=torch.float64)
        low, high = self.domain
        if t.device.type == "cpu" and t.numel() and not torch.compiler.is_compiling():
            least, most = torch.aminmax(t)
            if not (least >= low and most <= high):
                found = least if not least >= low else most
                raise ValueError(
                    f"t: {found.item():.12g} is outside the times of schedule {self.type_name!r}; give t in [{low:g}, {high:g}]"
                )
        return t


class Discrete(Schedule):
    """A schedule given by beta at T timesteps, with the 0-based indices of DDPM code: alpha_bar[i] = prod_{j<=i} (1 - beta[j])."""

    is_discrete: ClassVar[bool] = True

    timesteps: PositiveInt = 1000

    @property
    @abstractmethod
    def betas(self) -> Tensor:
        """beta at indices 0..T-1, float64, (T,)."""

    @property
    def horizon(self) -> float:
        """Number of timesteps T."""
        return float(self.timesteps)

    @property
    def domain(self) -> tuple[float, float]:
        """[0, T-1]."""
        return 0.0, float(self.timesteps - 1)

    @cached_property
    def _table(self) -> Tensor:
        log_alpha_bar = torch.log1p(-self.betas).cumsum(0)
        return log_alpha_bar - torch.log(-torch.expm1(log_alpha_bar))

    @cached_property
    def _tables(self) -> dict[torch.device, Tensor]:
        return {}

    def _table_on(self, device: torch.device) -> Tensor:
        if device not in self._tables:
            self._tables[device] = self._table.to(device)
        return self._tables[device]

    def _log_snr(self, t: Tensor) -> Tensor:
        table = self._table_on(t.device)
        below = t.floor().clamp(max=max(self.timesteps - 2, 0))
        i = below.long()
        left, right = table[i], table[(i + 1).clamp(max=self.timesteps - 1)]
        # At an index the value of the table itself: (1 - w) left + w right would round, and is NaN beside an infinite end.
        w = t - below
        return torch.where(w == 0, left, torch.where(w == 1, right, left + w * (right - left)))

    def t_of_log_snr(self, log_snr: Tensor | float) -> Tensor:
        """Inverse of the interpolated log-SNR; values beyond the ends give the ends."""
        log_snr = torch.as_tensor(log_snr, dtype=torch.float64)
        table = self._table_on(log_snr.device)
        if self.timesteps == 1:
            return torch.zeros_like(log_snr)
        i = torch.searchsorted(-table, -log_snr, right=True).clamp(1, self.timesteps - 1) - 1
        # At the next index exactly: the quotient rounds, and is NaN where that end is infinite.
        w = torch.where(log_snr == table[i + 1], 1.0, (log_snr - table[i]) / (table[i + 1] - table[i]))
        return i + w.clamp(0, 1)
