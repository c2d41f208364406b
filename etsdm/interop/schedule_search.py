"""The etsdm schedule of a table of alpha_bar, the `alphas_cumprod` of DDPM code."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import torch
from torch import Tensor

from etsdm.errors import PartError
from etsdm.schedules import Cosine, Linear, Quadratic, Schedule, ZeroTerminal
from etsdm.schedules.discrete import Discrete

__all__ = ["schedule_of"]

# Largest difference of log-SNR. A float32 table has 6e-4 at alpha_bar = 0.9999; a last beta of 0.02 in place of 0.0201 makes 2e-2.
TOLERANCE = 3e-3
RESOLVED = 1e-9  # alpha_bar below which values are not compared
VANISHED = 1e-14  # and below which there is no signal: zero terminal SNR


def schedule_of(alpha_bar: Tensor) -> Schedule:
    """Finds the schedule with these values.

    Candidates are `linear`, `quadratic` (`scaled_linear` in diffusers), `cosine`, and `zero-terminal-snr` of each; the ends of the first
    two are read from the table and rounded to a few digits.

    Args:
        alpha_bar: alpha(t)^2 at t = 0, 1, ..., T-1, (T,).

    Raises:
        PartError: no candidate has them.
    """
    table = alpha_bar.detach().to("cpu", torch.float64).flatten()
    if len(table) < 2 or not bool((table[1:] < table[:-1]).all()) or not 0 < float(table[0]) < 1 or float(table[-1]) < 0:
        raise PartError("schedule", f"{len(table)} values of alpha_bar that do not fall from below 1 to 0 or above are no schedule")
    for candidate in _candidates(table):
        if _distance(candidate, table) <= TOLERANCE:
            return candidate
    ends = f"alpha_bar from {table[0]:.6g} to {table[-1]:.6g} in {len(table)} timesteps"
    raise PartError("schedule", f"{ends} is neither linear, quadratic, cosine nor one of these with zero terminal SNR; give schedule")


def _candidates(table: Tensor) -> Iterator[Schedule]:
    steps = len(table)
    vanishes = float(table[-1]) < VANISHED
    first = 1 - float(table[0])
    betas = 1 - table[1:] / table[:-1]
    for base in _bases(steps, first, float(betas[-1])) if not vanishes else _usual(steps):
        yield ZeroTerminal(base=base) if vanishes else base


def _bases(steps: int, first: float, last: float) -> Iterator[Discrete]:
    yield Cosine(timesteps=steps)
    for digits in (2, 3, 4, 6):
        start, end = float(f"{first:.{digits}g}"), float(f"{last:.{digits}g}")
        if 0 < start < end < 1:
            yield Linear(timesteps=steps, beta_start=start, beta_end=end)
            yield Quadratic(timesteps=steps, beta_start=start, beta_end=end)


def _usual(steps: int) -> Iterator[Discrete]:
    """Bases of zero terminal SNR, whose ends cannot be read from a rescaled table."""
    yield Linear(timesteps=steps)
    yield Quadratic(timesteps=steps, beta_start=0.00085, beta_end=0.012)
    yield Quadratic(timesteps=steps, beta_start=0.0015, beta_end=0.0195)
    yield Cosine(timesteps=steps)


def _distance(candidate: Schedule, table: Tensor) -> float:
    """Largest difference of log-SNR at the times that have a signal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours = candidate.log_snr(torch.arange(len(table), dtype=torch.float64))
    theirs = table.log() - torch.log1p(-table)
    kept = table >= RESOLVED
    if bool((candidate.alpha_bar(torch.arange(len(table), dtype=torch.float64))[~kept] >= 2 * RESOLVED).any()):
        return float("inf")
    return float((ours - theirs)[kept].abs().max())
