"""Grids uniform in a function of log-SNR: `log-snr`, `karras`."""

from __future__ import annotations

from abc import abstractmethod

import torch
from pydantic import PositiveFloat
from torch import Tensor

from etsdm.grids.base import RealGrid, evenly
from etsdm.registry import grids
from etsdm.schedules import Schedule

__all__ = ["Karras", "LogSNRGrid"]


class SpacedInNoise(RealGrid):
    """A grid uniform in a function of log-SNR; from a start without signal, the first step is one `Schedule.step` long."""

    def _between(self, schedule: Schedule, start: float, end: float | None, n: int) -> Tensor:
        if end is not None and schedule.sigma(end) == 0:
            # Log-SNR is infinite there, so the grid is that without an end, and `end` the end of one more step.
            return torch.cat([self._between(schedule, start, None, n), torch.tensor([end], dtype=torch.float64)])
        last, points = (schedule.t_min, n) if end is None else (end, n + 1)
        if schedule.has_signal(start):
            return self._of_log_snr(schedule, start, last, points)
        start_again = start - schedule.step
        rest = self._of_log_snr(schedule, start_again, last, points - 1) if points > 1 else torch.empty(0, dtype=torch.float64)
        return torch.cat([torch.tensor([start], dtype=torch.float64), rest])

    def _of_log_snr(self, schedule: Schedule, start: float, end: float, points: int) -> Tensor:
        times = schedule.t_of_log_snr(self._log_snrs(schedule.log_snr(start).item(), schedule.log_snr(end).item(), points))
        times[0], times[-1] = start, end if points > 1 else start
        return times

    @abstractmethod
    def _log_snrs(self, start: float, end: float, points: int) -> Tensor:
        """Increasing log-SNRs from start to end, both included, (points,)."""


@grids.register("log-snr")
class LogSNRGrid(SpacedInNoise):
    """Uniform in log-SNR (DPM-Solver's `logSNR`)."""

    def _log_snrs(self, start: float, end: float, points: int) -> Tensor:
        return evenly(start, end, points)


@grids.register("karras")
class Karras(SpacedInNoise):
    """Uniform in (sigma/alpha)^(1/rho) (Karras et al. 2022, Eq. 5).

    Attributes:
        rho: the larger, the more steps at small noise levels.
    """

    rho: PositiveFloat = 7.0

    def _log_snrs(self, start: float, end: float, points: int) -> Tensor:
        # In powers of sigma/alpha = exp(-log-SNR / 2).
        root = torch.tensor([start, end], dtype=torch.float64).div(-2 * self.rho).exp()
        return -2 * self.rho * evenly(root[0].item(), root[1].item(), points).log()
