"""Warnings about the ends of a path: a start that is not the noise level of x, and noise that is left in the images."""

from __future__ import annotations

import warnings

from etsdm.denoisers.config import DenoiserConfig
from etsdm.grids.base import VISIBLE_SIGNAL, level_distance, signal_share

__all__ = ["warn_of_noise_left", "warn_of_noised_images", "warn_of_pure_noise"]

SCHEDULE_SIGNAL = 0.1  # above what the schedule of Stable Diffusion ends with, 0.068
VISIBLE_NOISE = 0.05  # 6 of 256 levels


def warn_of_pure_noise(denoiser: DenoiserConfig, grid: str, first: float, start: float | None) -> None:
    """Warns if x at the first time of a grid is not pure noise, or if the grid leaves out a last time that is.

    Args:
        denoiser: a denoiser, or its spec.
        grid: name of the grid.
        first: the first time of the path.
        start: the start that was given, None for the schedule's last time.
    """
    schedule = denoiser.schedule
    last = schedule.domain[1]
    share, end = signal_share(schedule, first), signal_share(schedule, last)
    found = f"sampling starts from pure noise at t = {first:g}, where x has signal alpha = {schedule.alpha(first):.3g}"
    if share - end > VISIBLE_SIGNAL:
        later = f"give a start nearer to {last:g}, or noise images to that time by img2img"
        mend = f"give grid auto or trailing in place of {grid!r}, or more steps" if start is None else later
        _warn(f"{found}, sigma = {schedule.sigma(first):.3g}; {mend}")
    elif start is None and end == 0 < share and not denoiser.target.needs_signal:
        _warn(f"alpha = 0 at t = {last:g}, which grid {grid!r} leaves out: it starts at {first:g}; give grid auto or trailing")
    elif end > SCHEDULE_SIGNAL:
        mend = "give it more noise (a larger last beta, more timesteps), or zero-terminal-snr of it"
        _warn(f"{found}: schedule {schedule.type_name!r} does not end in noise; {mend}")


def warn_of_noised_images(denoiser: DenoiserConfig, grid: str, first: float, start: float) -> None:
    """Warns if images are noised to another level than that of the start, because the grid begins elsewhere."""
    schedule = denoiser.schedule
    if level_distance(schedule, first, start) > VISIBLE_SIGNAL:
        levels = f"sigma = {schedule.sigma(first):.3g} in place of {schedule.sigma(start):.3g}"
        message = f"grid {grid!r} begins at t = {first:g}, not at the start {start:g}, so that images get noise of {levels}"
        _warn(f"{message}; give grid auto or trailing, or more steps")


def warn_of_noise_left(end: float, noise: float) -> None:
    """Warns if visible noise is left at a `t_end`. Args: end: the time. noise: its standard deviation."""
    if noise > VISIBLE_NOISE:
        message = f"sampling ends at t_end = {end:g}, where images have noise of standard deviation {noise:.3g}"
        _warn(f"{message}; give denoise_to_zero: true, an earlier t_end, or none for clean images")


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=4)
