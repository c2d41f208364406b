"""Discrete schedules: a table of T noise levels, and interpolation between them.

Indices are the 0-based ones of DDPM code, alpha_bar[i] = prod_{j<=i} (1 - beta[j]): level 0 is already noisy. Between two
indices log-SNR is interpolated linearly in t, with w the fraction of the segment. Where one end of a segment is infinite, its base is
the value at the other end:

    lambda = base + 2 log(1 - w)   where the right end is -inf: alpha, as it vanishes, falls linearly to 0,
    lambda = base - 2 log w        where the left end is +inf: sigma, as it appears, rises linearly from 0.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from functools import cached_property
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from etsdm.schedules.base import Continuous, Schedule, Slope, from_log_snr
from etsdm.schedules.tables import plain_tensors

__all__ = ["Discrete", "FromBetas"]


class _Table(NamedTuple):
    """Lookup tables by index, each (T,).

    Fields: log_snrs; alphas and sigmas; lefts and rights, log-SNR at the ends of the segment that starts at the index, its base in
    place of an infinite one; kept and fall, of the factor kept + fall w on alpha, which is 1 except where alpha vanishes; betas and
    next_betas.
    """

    log_snrs: Tensor
    alphas: Tensor
    sigmas: Tensor
    lefts: Tensor
    rights: Tensor
    kept: Tensor
    fall: Tensor
    betas: Tensor
    next_betas: Tensor


class Discrete(Schedule):
    """A schedule defined by log-SNR at T timesteps."""

    is_discrete: ClassVar[bool] = True

    @property
    @abstractmethod
    def log_snrs(self) -> Tensor:
        """lambda at indices 0..T-1, decreasing, float64, (T,); only the first may be +inf and only the last -inf."""

    @property
    @abstractmethod
    def continuous(self) -> Continuous:
        """Continuous limit of the schedule as T grows, with t = (i + 1)/T."""

    @property
    def betas(self) -> Tensor:
        """1 - alpha_bar[i]/alpha_bar[i-1], float64, (T,)."""
        log_alpha_bar = F.logsigmoid(self.log_snrs)
        return -torch.expm1(log_alpha_bar.diff(prepend=log_alpha_bar.new_zeros(1)))

    @property
    def horizon(self) -> float:
        """Number of timesteps T."""
        return float(len(self._table.log_snrs))

    @cached_property
    def domain(self) -> tuple[float, float]:
        """[0, T-1]."""
        return 0.0, self.horizon - 1

    def slope_at_zero(self) -> Slope:
        """Slope of the continuous limit, per unit of its time, in which the horizon is 1."""
        return self.continuous.slope_at_zero()

    @cached_property
    def _table(self) -> _Table:
        with plain_tensors():
            return self._made_table()

    def _made_table(self) -> _Table:
        log_snrs, betas = self.log_snrs, self.betas
        following = torch.cat([log_snrs[1:], log_snrs[-1:]])
        lefts = torch.where(log_snrs.isinf(), following, log_snrs)
        rights = torch.where(following.isinf(), log_snrs, following)
        # Where neither end of a segment is finite its base is 0.
        lefts, rights = (ends.nan_to_num(posinf=0.0, neginf=0.0) for ends in (lefts, rights))
        vanished, vanishes = log_snrs == -math.inf, following == -math.inf
        kept, fall = (~vanished).double(), -(vanishes & ~vanished).double()
        return _Table(log_snrs, *from_log_snr(log_snrs), lefts, rights, kept, fall, betas, torch.cat([betas[1:], betas[-1:]]))

    @cached_property
    def _starts_clean(self) -> bool:
        return self._table.log_snrs[0].item() == math.inf

    @cached_property
    def _ends_without_signal(self) -> bool:
        return self._table.log_snrs[-1].item() == -math.inf

    @cached_property
    def _tables(self) -> dict[torch.device, _Table]:
        return {}

    def _table_on(self, device: torch.device) -> _Table:
        if device not in self._tables:
            with plain_tensors():
                self._tables[device] = _Table._make(column.to(device) for column in self._table)
        return self._tables[device]

    def _alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return from_log_snr(self._log_snr(t))

    def _alpha_sigma_of_number(self, t: float) -> tuple[Tensor, Tensor]:
        if float(t).is_integer():
            return self._table.alphas[int(t)], self._table.sigmas[int(t)]
        return super()._alpha_sigma_of_number(t)

    def _log_snr(self, t: Tensor) -> Tensor:
        table = self._table_on(t.device)
        i, w = t.long(), t.frac()
        log_snr = torch.lerp(table.lefts.take(i), table.rights.take(i), w)
        if self._starts_clean:
            log_snr = log_snr - 2 * torch.where(i == 0, w, 1.0).log()
        if self._ends_without_signal:
            log_snr = log_snr + 2 * torch.addcmul(table.kept.take(i), table.fall.take(i), w).log()
        return log_snr

    def _t_of_log_snr(self, log_snr: Tensor) -> Tensor:
        table = self._table_on(log_snr.device)
        last = len(table.log_snrs) - 1
        if last == 0:
            return torch.zeros_like(log_snr)
        i = torch.searchsorted(-table.log_snrs, -log_snr, right=True).clamp(1, last) - 1
        left, right = table.lefts.take(i), table.rights.take(i)
        w = ((log_snr - left) / (right - left)).clamp(0, 1)
        falling, rising = -torch.expm1((log_snr - left) / 2), torch.exp((right - log_snr) / 2)
        if self._starts_clean:
            w = torch.where(i == 0, rising, w)
        if self._ends_without_signal:
            both = self._starts_clean and last == 1
            w = torch.where(i == last - 1, (-log_snr / 2).sigmoid() if both else falling, w)
        # At the next index exactly: the quotient rounds.
        return i + torch.where(log_snr == table.log_snrs.take(i + 1), 1.0, w.clamp(0, 1))

    def _beta(self, t: Tensor) -> Tensor:
        table, i = self._table_on(t.device), t.long()
        return torch.lerp(table.betas.take(i), table.next_betas.take(i), t.frac())


class FromBetas(Discrete):
    """A discrete schedule defined by beta, the variance added per timestep."""

    @property
    @abstractmethod
    def betas(self) -> Tensor:
        """beta at indices 0..T-1, float64, (T,); only the first may be 0 and only the last 1."""

    @property
    def log_snrs(self) -> Tensor:
        """lambda from log(alpha_bar) = sum log(1 - beta), which keeps digits near 0 that the product of 1 - beta would lose."""
        log_alpha_bar = torch.log1p(-self.betas).cumsum(0)
        return log_alpha_bar - torch.log(-torch.expm1(log_alpha_bar))
