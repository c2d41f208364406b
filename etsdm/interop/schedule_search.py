"""The etsdm schedule of a table of alpha_bar, the `alphas_cumprod` of DDPM code and of diffusers' schedulers.

Candidates are `linear` and `quadratic` (`scaled_linear` in diffusers) with given ends or those of the table, `cosine`, and every other
registered discrete schedule; where the table ends without signal, `zero-terminal-snr` of each.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator

import torch
from pydantic import ValidationError
from torch import Tensor

from etsdm.errors import PartError, RegistryError
from etsdm.registry import schedules
from etsdm.schedules import Cosine, Linear, Quadratic, Schedule, ZeroTerminal
from etsdm.schedules.discrete import Discrete

__all__ = ["find_schedule", "schedule_of"]

# Largest difference of alpha_bar and of 1 - alpha_bar. Tables are float32: a product of 4000 factors is off by up to 4000 * 2^-24 = 2.4e-4
# of its value, and 1 - alpha_bar by units of 2^-24. A last beta of 0.0201 in place of 0.02 makes differences of 1e-2 of alpha_bar.
RELATIVE, ABSOLUTE = 5e-4, 2e-7
NO_SIGNAL = (0.0, 2.0**-24)  # last alpha_bar of zero terminal SNR; the second in schedulers of diffusers that divide by it
# Ends of beta in Stable Diffusion and latent diffusion, for tables rescaled to zero terminal SNR, from which they cannot be read.
LATENT_ENDS = ((0.00085, 0.012), (0.0015, 0.0195))


def schedule_of(alpha_bar: Tensor) -> Schedule:
    """Finds the schedule with these values.

    Args:
        alpha_bar: alpha(t)^2 at t = 0, 1, ..., T-1, (T,).

    Raises:
        PartError: no candidate has them.
    """
    table = alpha_bar.detach().to("cpu", torch.float64).flatten()
    if len(table) < 2 or not bool((table[1:] < table[:-1]).all()) or not 0 < float(table[0]) < 1 or float(table[-1]) < 0:
        raise PartError("schedule", f"{len(table)} values of alpha_bar that do not fall from below 1 to 0 or above are no schedule")
    found = find_schedule(table)
    if found is None:
        ends = f"alpha_bar from {table[0]:.6g} to {table[-1]:.6g} in {len(table)} timesteps"
        known = "neither linear, quadratic, cosine, another registered schedule, nor one of these with zero terminal SNR"
        raise PartError("schedule", f"{ends} is {known}; give schedule")
    return found


def find_schedule(alpha_bar: Tensor, ends: Iterable[tuple[float, float]] = ()) -> Schedule | None:
    """The first candidate with these values, None if there is none.

    Args:
        alpha_bar: alpha(t)^2 at t = 0, 1, ..., T-1, (T,), T of 1 or more.
        ends: first and last beta of the first candidates.
    """
    table = alpha_bar.detach().to("cpu", torch.float64)
    if not bool(table.isfinite().all()):
        return None
    times = torch.arange(len(table), dtype=torch.float64)
    for candidate in _candidates(table, ends):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            own = candidate.alpha_bar(times)
        if _equal(own, table) and _equal(1 - own, 1 - table):
            return candidate
    return None


def _equal(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=RELATIVE, atol=ABSOLUTE)


def _candidates(table: Tensor, ends: Iterable[tuple[float, float]]) -> Iterator[Schedule]:
    vanishes = len(table) > 1 and float(table[-1]) in NO_SIGNAL
    for base in _bases(len(table), (*ends, *(LATENT_ENDS if vanishes else _ends_of(table)))):
        yield ZeroTerminal(base=base) if vanishes else base


def _bases(count: int, ends: Iterable[tuple[float, float]]) -> Iterator[Discrete]:
    for first, last in dict.fromkeys(ends):
        for kind in (Linear, Quadratic):
            try:
                yield kind(timesteps=count, beta_start=first, beta_end=last)
            except ValidationError:  # betas outside (0, 1)
                continue
    yield Cosine(timesteps=count)
    for name in schedules.names():
        try:
            made = schedules.create(name, timesteps=count)
        except RegistryError:  # without timesteps, or not with so few
            continue
        if isinstance(made, Discrete):
            yield made


def _ends_of(table: Tensor) -> Iterator[tuple[float, float]]:
    """First and last beta of a table, to some digits of those that float32 leaves."""
    if len(table) > 1 and table[-2] > 0:
        first, last = 1 - float(table[0]), 1 - float(table[-1] / table[-2])
        for digits in (2, 3, 4, 6):
            yield float(f"{first:.{digits}g}"), float(f"{last:.{digits}g}")
