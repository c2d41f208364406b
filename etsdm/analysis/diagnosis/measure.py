"""`measure`: all that a diagnosis is made of, of one denoiser on one set of images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from etsdm.analysis.diagnosis.cost import CountedRows, rows_of_chain, rows_of_curves
from etsdm.analysis.diagnosis.loss import LossCurve, loss_curve
from etsdm.analysis.diagnosis.shared_conditions import SharedConditions, precision_of, proposed_map, share_of_updates
from etsdm.analysis.diagnosis.singularity import is_singular
from etsdm.analysis.diagnosis.time_awareness import TimeAwareness, far_pairs, time_awareness
from etsdm.analysis.lipschitz import LipschitzCurve, lipschitz_curve
from etsdm.analysis.stability import StabilityCurve, stability_curve
from etsdm.analysis.time_grid import edges_of, measured_edges, measured_times, range_name
from etsdm.analysis.time_pairs import TimePairs
from etsdm.condition_maps import ConditionMap
from etsdm.denoisers.protocol import DenoiserLike, refuse_incomplete
from etsdm.errors import PartError
from etsdm.losses import LogNormal, TimeSampler, Uniform
from etsdm.samplers import DDIM
from etsdm.schedules import Schedule, Slope
from etsdm.targets import Target

__all__ = ["COARSE", "FINE", "Measurements", "measure", "rows_per_image"]

FINE = 20  # times in each sub-interval
COARSE = 18  # and beyond the last of them
SCALES = (0.0, 0.1, 0.2)  # of the perturbation, in pixel values of [-1, 1]
TOLERANCE = 1e-9  # of the horizon: times that differ by less are equal up to rounding


class Measurements(NamedTuple):
    """Measurements of a denoiser.

    Fields: schedule, target, condition_map and dtype of the denoiser; sharing, its own map where that shares conditions, else the map of
    `proposed_map`; edges of the sub-intervals, as times; is_shared, whether the denoiser itself shares conditions; one_condition, whether
    all times have the same; slope of sigma at t = 0; is_singular, whether the ideal output is infinitely steep there; awareness;
    lipschitz, K per step at the same x (mode `shared-x`), and coupled, where x changes as well, of the denoiser as it is; the same
    `_shared`, with shared conditions and the same weights, None where they are shared already; loss likewise; stability by reading;
    time_sampler of the training; updates, share of its times before the last edge.
    """

    schedule: Schedule
    target: Target
    condition_map: ConditionMap
    dtype: torch.dtype
    sharing: ConditionMap
    edges: tuple[float, ...]
    is_shared: bool
    one_condition: bool
    slope: Slope
    is_singular: bool
    awareness: TimeAwareness
    lipschitz: LipschitzCurve
    coupled: LipschitzCurve
    loss: LossCurve
    lipschitz_shared: LipschitzCurve | None
    coupled_shared: LipschitzCurve | None
    loss_shared: LossCurve | None
    stability: dict[str, StabilityCurve]
    time_sampler: TimeSampler
    updates: float

    @property
    def images(self) -> int:
        """Number of images."""
        return self.awareness.images

    @property
    def shared_range(self) -> str:
        """The range of the sub-intervals with its variable, such as `[0, 100)`."""
        return range_name(self.schedule, self.edges[0], self.edges[-1])

    def at_edges(self, curve: LipschitzCurve) -> Tensor:
        """Which times of a curve have an edge between them and their neighbour, or at it: bool, (M,)."""
        slack = TOLERANCE * curve.horizon
        edges = torch.tensor(self.edges[1:], dtype=torch.float64)[:, None]
        return ((curve.t < edges - slack) & (edges - slack <= curve.t + curve.dt)).any(0)

    def summary(self, curve: LipschitzCurve) -> dict[str, float | None]:
        """K per step of a curve: at the `first` time; means `inside` sub-intervals, in the `first interval`, at `edges`, `beyond`."""
        edge = self.at_edges(curve)
        before = curve.t < self.edges[-1] - TOLERANCE * curve.horizon
        first = curve.t < self.edges[1] - TOLERANCE * curve.horizon
        parts = {"inside": before & ~edge, "first interval": first & ~edge, "edges": edge, "beyond": ~before & ~edge}
        means = {name: curve.mean[chosen].mean().item() if chosen.any() else None for name, chosen in parts.items()}
        return {"first": curve.mean[0].item(), **means}


def measure(
    denoiser: DenoiserLike,
    images: Tensor,
    cond: Mapping[str, Tensor] | None = None,
    *,
    fine: int = FINE,
    coarse: int = COARSE,
    time_sampler: TimeSampler | None = None,
    seed: int = 0,
    batch_size: int = 32,
    on_rows: Callable[[int], Any] = lambda n: None,
) -> Measurements:
    """Measures a denoiser.

    Args:
        denoiser: trained, in eval mode, or exact.
        images: clean images, or latents or data of the denoiser's shape, (N, ...).
        cond: conditioning inputs, such as labels `y`, a row for each image.
        fine: times in each sub-interval.
        coarse: times beyond the last sub-interval.
        time_sampler: distribution of training times; uniform by default, log-normal where t is a noise level.
        seed: seed of the noise.
        batch_size: images in a forward pass.
        on_rows: called with the number of rows in each pass of the network; `rows_per_image` for each image in all.

    Raises:
        PartError: there are no images, an argument is out of range, or the outputs are not finite.
    """
    refuse_incomplete(denoiser)
    for name, value in (("fine", fine), ("coarse", coarse), ("batch_size", batch_size)):
        if value < 1:
            raise PartError(name, f"{value} is too few; give 1 or more")
    schedule, own, denoiser = denoiser.schedule, denoiser.condition_map, CountedRows(denoiser, on_rows)
    is_shared, sharing, edges = _sharing(denoiser)
    times = _times(schedule, edges, fine, coarse)

    def batches() -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        for start in range(0, len(images), batch_size):
            rows = slice(start, start + batch_size)
            yield images[rows], {name: value[rows] for name, value in (cond or {}).items()}

    def curve(of: DenoiserLike, mode: str) -> LipschitzCurve:
        return lipschitz_curve(of, batches(), times.tolist(), mode=mode, seed=seed, batch_size=2 * batch_size).per_step()

    shared = None if is_shared else SharedConditions(denoiser, sharing)
    conditions = denoiser.condition(times)
    end = min(edges[-1], schedule.domain[1])
    drawn = time_sampler or (LogNormal() if schedule.time_is_noise_level else Uniform())
    awareness, dtype = time_awareness(denoiser, batches(), seed=seed, batch_size=batch_size), precision_of(denoiser)
    _refuse_not_finite(awareness, dtype)
    return Measurements(
        schedule=schedule,
        target=denoiser.target,
        condition_map=own,
        dtype=dtype,
        sharing=sharing,
        edges=edges,
        is_shared=is_shared,
        one_condition=len(conditions.unique()) == 1,
        slope=schedule.slope_at_zero(),
        is_singular=is_singular(schedule, denoiser.target),
        awareness=awareness,
        lipschitz=curve(denoiser, "shared-x"),
        coupled=curve(denoiser, "coupled"),
        loss=loss_curve(denoiser, batches(), times, seed=seed, batch_size=batch_size),
        lipschitz_shared=None if shared is None else curve(shared, "shared-x"),
        coupled_shared=None if shared is None else curve(shared, "coupled"),
        loss_shared=None if shared is None else loss_curve(shared, batches(), times, seed=seed, batch_size=batch_size),
        stability={
            "chain": stability_curve(denoiser, batches(), end, scales=SCALES, sampler=DDIM(), seed=seed, batch_size=batch_size),
            "one-shot": stability_curve(denoiser, batches(), end, scales=SCALES, reading="one-shot", seed=seed, batch_size=batch_size),
        },
        time_sampler=drawn,
        updates=share_of_updates(drawn, schedule, edges[-1]),
    )


def rows_per_image(denoiser: DenoiserLike, fine: int = FINE, coarse: int = COARSE) -> int:
    """Number of times that each image passes through the network in `measure`."""
    schedule = denoiser.schedule
    is_shared, sharing, edges = _sharing(denoiser)
    pairs = TimePairs.of(schedule, _times(schedule, edges, fine, coarse).tolist())
    far, together = far_pairs(schedule)
    models = [denoiser] if is_shared else [denoiser, SharedConditions(denoiser, sharing)]
    curves = sum(rows_of_curves(model, pairs.t, pairs.neighbour) for model in models)
    chain = rows_of_chain(schedule, min(edges[-1], schedule.domain[1]))
    return len(far) + len(together) + curves + len(SCALES) * (chain + 1)


def _sharing(denoiser: DenoiserLike) -> tuple[bool, ConditionMap, tuple[float, ...]]:
    """Whether a denoiser shares conditions, its own map or the proposed one, and the edges of the sub-intervals."""
    schedule, own = denoiser.schedule, denoiser.condition_map
    is_shared = bool(edges_of(own, schedule))
    sharing = own if is_shared else proposed_map(schedule)
    return is_shared, sharing, measured_edges([sharing], schedule)


def _times(schedule: Schedule, edges: tuple[float, ...], fine: int, coarse: int) -> Tensor:
    """Times of all curves: those of `measured_times` that have a neighbour, and the last one before each edge."""
    first, slack = min(schedule.t_min, schedule.domain[1]), TOLERANCE * schedule.horizon
    last = max(_step_before(schedule, schedule.domain[1]), first)
    at_edges = torch.tensor([_step_before(schedule, edge) for edge in edges[1:]], dtype=torch.float64)
    found = torch.cat([measured_times(schedule, edges, fine, coarse), at_edges.clamp(min=first)]).unique()
    kept = found[found <= last + slack].clamp(max=last)
    # Times that agree up to rounding are one.
    distinct: Tensor = kept[torch.cat([torch.tensor([True]), kept.diff() > slack])]
    return distinct


def _step_before(schedule: Schedule, t: float) -> float:
    """The last time of a discrete schedule before t; the time whose next step is t of others."""
    if schedule.is_discrete:
        return math.ceil(t - TOLERANCE * schedule.horizon) - 1.0
    if schedule.time_is_noise_level:
        return t / (1 + TimePairs.of(schedule, [schedule.t_min]).step.item() / schedule.t_min)
    return t - schedule.step


def _refuse_not_finite(awareness: TimeAwareness, dtype: torch.dtype) -> None:
    bad = ~(awareness.norm + awareness.change).isfinite()
    if bad.any():
        half = ", or load it in single precision" if dtype in (torch.float16, torch.bfloat16) else ""
        found = f"its output is not finite at t = {awareness.t[bad][0].item():g}"
        raise PartError("model", f"{found}; give the weights of an earlier checkpoint{half}")
