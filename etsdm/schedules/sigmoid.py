"""The sigmoid schedule (Jabri et al. 2022).

alpha_bar is a logistic curve in u = start + t (end - start), normalised to go from 1 to 0:

    alpha_bar = (sig(end/tau) - sig(u/tau))/(sig(end/tau) - sig(start/tau)).

With k = (end - start)/(2 tau) and sinh and cosh for the differences of logistic functions,

    SNR = R C,   R = sinh((1 - t) k)/sinh(t k),   C = cosh(start/(2 tau))/cosh(end/(2 tau)).
"""

from __future__ import annotations

import math
from typing import Self

import torch
from pydantic import PositiveFloat, model_validator
from torch import Tensor
from torch.nn import functional as F

from etsdm.registry import field_error, schedules
from etsdm.schedules.base import Continuous, Slope, from_log_snr

__all__ = ["Sigmoid"]


@schedules.register("sigmoid")
class Sigmoid(Continuous):
    """alpha_bar a segment of a logistic curve, normalised to go from 1 to 0 (Jabri et al. 2022).

    Attributes:
        start, end: arguments of the logistic function at t = 0 and t = 1.
        tau: temperature; a larger one gives a straighter segment.
    """

    start: float = -3.0
    end: float = 3.0
    tau: PositiveFloat = 1.0

    @model_validator(mode="after")
    def _start_is_before_end(self) -> Self:
        if self.start >= self.end:
            raise field_error("Sigmoid", ("start",), f"{self.start:g} is not below end, {self.end:g}; give a smaller start", self.start)
        return self

    @property
    def _k(self) -> float:
        return (self.end - self.start) / (2 * self.tau)

    @property
    def _log_c(self) -> float:
        return _log_cosh(self.start / (2 * self.tau)) - _log_cosh(self.end / (2 * self.tau))

    def _log_snr(self, t: Tensor) -> Tensor:
        # log sinh(x) = x + log(1 - exp(-2 x)) - log 2, which does not overflow at low temperatures.
        before, after = t * (2 * self._k), (1 - t) * (2 * self._k)
        return (after - before) / 2 + torch.log(torch.expm1(-after) / torch.expm1(-before)) + self._log_c

    def _alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return from_log_snr(self._log_snr(t))

    def _rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        growth = self._variance_rate(t)
        return -growth / (2 * self._alpha_sigma(t)[0]), growth

    def _variance_rate(self, t: Tensor) -> Tensor:
        u = (self.start + t * (self.end - self.start)) / self.tau
        # sig' = 1/(4 cosh^2(u/2)); sig(b) - sig(a) = sinh((b - a)/2)/(2 cosh(a/2) cosh(b/2)).
        ends = _log_cosh(self.start / (2 * self.tau)) + _log_cosh(self.end / (2 * self.tau))
        log_cosh = torch.logaddexp(u / 2, -u / 2) - math.log(2)
        return self._k * torch.exp(ends - self._log_sinh - 2 * log_cosh)

    @property
    def _log_sinh(self) -> float:
        return self._k + math.log(-math.expm1(-2 * self._k)) - math.log(2)

    def _t_of_log_snr(self, log_snr: Tensor) -> Tensor:
        # From R: 2 t k = log((R + e^k)/(R + e^-k)) = log(1 + 2 sinh(k)/(R + e^-k)).
        log_r = log_snr - self._log_c
        ratio = self._log_sinh + math.log(2) - torch.logaddexp(log_r, torch.full_like(log_r, -self._k))
        return -F.logsigmoid(-ratio) / (2 * self._k)

    def slope_at_zero(self) -> Slope:
        """sqrt(d (sigma^2)/dt)/2 at t = 0; always singular."""
        return Slope(self._variance_rate(torch.zeros((), dtype=torch.float64)).sqrt().item() / 2, True)


def _log_cosh(x: float) -> float:
    return abs(x) + math.log1p(math.exp(-2 * abs(x))) - math.log(2)
