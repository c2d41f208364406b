"""Times at which a denoiser is measured, from the schedule and the shared sub-intervals of the condition maps that are compared.

Below the last edge the sub-intervals are resolved, each with as many times as the others. Beyond it the times are equally spaced in t, or
in log-SNR where t is a noise level. Without shared sub-intervals the edges are the paper's, five equal parts of the first tenth of the
schedule, or their noise levels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from etsdm.analysis.time_pairs import timesteps
from etsdm.condition_maps import EDM_PARTITIONS, Compose, ConditionMap, Intervals
from etsdm.schedules import Schedule

__all__ = ["edges_of", "measured_edges", "measured_times", "range_name", "steps_below", "steps_of_curve"]

SUB_INTERVALS, SHARE = 5, 10  # the paper's n, and T / t_tilde
MAX_FINE = 250  # times below the last edge, however many sub-intervals there are
TOLERANCE = 1e-9  # of the horizon: times that differ by less are equal up to rounding


def edges_of(condition_map: ConditionMap, schedule: Schedule) -> tuple[float, ...]:
    """Edges of the sub-intervals in which a map shares conditions, as times; none where it shares none or one condition for all."""
    if isinstance(condition_map, Intervals):
        return condition_map.sub_intervals.edges
    if not isinstance(condition_map, Compose):
        return ()
    before: list[ConditionMap] = []
    for map_ in condition_map.maps:
        if isinstance(map_, Intervals):
            edges = torch.tensor(map_.sub_intervals.edges, dtype=torch.float64)
            for remap in reversed(before):
                edges = remap.inverse(edges, schedule)
            return tuple(sorted(set(edges.tolist())))
        before.append(map_)
    return ()


def measured_edges(condition_maps: Iterable[ConditionMap], schedule: Schedule) -> tuple[float, ...]:
    """Edges of all sub-intervals of several maps on one schedule, increasing, from the schedule's first time on."""
    low = schedule.domain[0]
    found = {edge for map_ in condition_maps for edge in edges_of(map_, schedule)} or set(_paper_edges(schedule))
    distinct = [low]
    for edge in sorted(min(edge, schedule.horizon) for edge in found):
        if edge - distinct[-1] > TOLERANCE * schedule.horizon:
            distinct.append(edge)
    return tuple(distinct)


def measured_times(schedule: Schedule, edges: Sequence[float], fine: int, coarse: int) -> Tensor:
    """Times for a curve over the whole schedule.

    Args:
        schedule: of the times.
        edges: of the sub-intervals, two or more, the first at the start of the schedule.
        fine: times in each sub-interval, fewer where there are many sub-intervals.
        coarse: times beyond the last edge.

    Returns:
        Increasing, float64, (M,); timesteps of a discrete schedule, and none before the first time at which networks are called.
    """
    each = max(1, min(fine, MAX_FINE // (len(edges) - 1)))
    parts = [_spaced(schedule, left, right, each) for left, right in pairwise(edges)]
    end = schedule.horizon
    if edges[-1] < schedule.domain[1]:
        parts.append(_spaced(schedule, edges[-1], end, coarse))
    times = torch.cat(parts)
    if schedule.is_discrete:
        times = (times - TOLERANCE * end).ceil() + 0.0  # no -0
    distinct: Tensor = times.clamp(min(schedule.t_min, schedule.domain[1]), schedule.domain[1]).unique()
    return distinct


def steps_below(schedule: Schedule, t: float) -> int:
    """Number of timesteps (`etsdm.analysis.timesteps`) that lie before a time."""
    times = torch.tensor(timesteps(schedule), dtype=torch.float64)
    return int((times < t - TOLERANCE * schedule.horizon).sum())


def steps_of_curve(schedule: Schedule, edges: Sequence[float]) -> int:
    """Number of timesteps of a K curve by default, 1 or more: twice as far as the edges reach, in t, or in steps of noise levels."""
    last = len(timesteps(schedule))
    steps = 2 * steps_below(schedule, edges[-1]) if schedule.time_is_noise_level else steps_below(schedule, 2 * edges[-1])
    return min(last, max(1, steps))


def range_name(schedule: Schedule, low: float, high: float) -> str:
    """A range of times with its variable, such as `[0, 100)` of timesteps, `t in [0, 0.1)`, or `sigma in [0, 0.32)`."""
    variable = "" if schedule.is_discrete else "sigma in " if schedule.time_is_noise_level else "t in "
    return f"{variable}[{low:.4g}, {high:.4g})"


def _paper_edges(schedule: Schedule) -> tuple[float, ...]:
    if schedule.time_is_noise_level:
        return EDM_PARTITIONS["edm-vp-equivalent"]
    return tuple(schedule.horizon / SHARE * i / SUB_INTERVALS for i in range(SUB_INTERVALS + 1))


def _spaced(schedule: Schedule, left: float, right: float, count: int) -> Tensor:
    """Times from `left`, without `right`: equally spaced, or in a constant ratio where t is a noise level."""
    shares = torch.arange(count, dtype=torch.float64) / count
    if not schedule.time_is_noise_level:
        return left + (right - left) * shares
    left = max(left, schedule.t_min)
    growth = math.log(right / left) if right > left else 0.0
    return left * torch.exp(growth * shares)
