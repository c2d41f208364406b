"""Advice from the numbers of a diagnosis: what was found, what to do, and how sure that is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch

from etsdm.analysis.diagnosis.measure import Measurements
from etsdm.condition_maps import ETSDM, ConditionMap, Identity
from etsdm.losses import Uniform
from etsdm.registry import schedules
from etsdm.schedules import Schedule

__all__ = ["Advice", "Verdict", "advise", "verdict_of"]

BLIND, WEAK = 0.01, 0.05  # time-awareness below which K means nothing, and below which it means little
STEEP = 2.0  # K in the first sub-interval over that beyond the last
HORIZON = 1000  # of `share_timesteps`, by default
UNKNOWN = "whether samples get better is not measured here; compare two trainings, as a recipe with two arms does"

Verdict = Literal["untrained", "ignores-t", "shared", "share", "not-steep", "not-concerned"]


class Advice(NamedTuple):
    """One piece of advice. Fields: topic; finding, with its numbers; action, empty where there is nothing to do; certainty, in words."""

    topic: str
    finding: str
    action: str
    certainty: str


def verdict_of(found: Measurements) -> Verdict:
    """The case that a denoiser belongs to.

    `untrained`, its output is 0; `ignores-t`, its output hardly depends on t; `shared`, it shares conditions already; `share`, its ideal
    output is infinitely steep and K is large near t = 0; `not-steep`, likewise, but K is not; `not-concerned`, its ideal output has a
    finite slope.
    """
    if not found.awareness.norm.any():
        return "untrained"
    if found.awareness.value < BLIND:
        return "ignores-t"
    if found.is_shared:
        return "shared"
    if not found.is_singular:
        return "not-concerned"
    steepness = _steepness(found)
    return "share" if steepness is None or steepness >= STEEP else "not-steep"


def advise(found: Measurements) -> list[Advice]:
    """Advice in plain words, the most important numbers first and what to do last."""
    verdict = verdict_of(found)
    return [
        _of_awareness(found, verdict),
        _of_slope(found),
        _of_lipschitz(found, verdict),
        *([] if found.loss_shared is None else [_of_sharing(found, verdict)]),
        _of_updates(found),
        _of_verdict(found, verdict),
        *(_other_ways(found) if verdict in ("share", "not-steep") else []),
    ]


def _steepness(found: Measurements) -> float | None:
    means = found.summary(found.lipschitz)
    first, beyond = means["first interval"], means["beyond"]
    return first / beyond if first is not None and beyond else None


def _of_awareness(found: Measurements, verdict: Verdict) -> Advice:
    value, n = found.awareness.value, found.images
    finding = f"Time-awareness is {value:.3g}: between far times t and t', at the same x, the output changes by {_size(value)}"
    certainty = f"measured on {_images(n)}, at {len(found.awareness.t)} pairs of times"
    if verdict == "untrained":
        return Advice("time-awareness", "The output is 0 for every input, as of a network that was never trained.", "", certainty)
    if found.one_condition:
        finding = f"{finding}, because its condition map gives all times one condition; a K of 0 says nothing about the network"
        return Advice("time-awareness", f"{finding}.", "", certainty)
    if value < BLIND:
        action = (
            "Find where the time is lost before anything else: a group or layer norm right after the time embedding is added cancels it "
            "where a group is one channel (scale and shift after the norm instead, or use fewer groups); or the time is not passed on, or "
            "in another unit."
        )
        return Advice("time-awareness", f"{finding}: the network hardly looks at t, and a small K means nothing.", action, certainty)
    if value < WEAK:
        return Advice("time-awareness", f"{finding}: the network looks at t a little, so K is small for that reason too.", "", certainty)
    return Advice("time-awareness", f"{finding}: the network uses t, and K is about its smoothness.", "", certainty)


def _of_slope(found: Measurements) -> Advice:
    schedule, target, slope = _name(found.schedule), found.target.type_name, found.slope
    unit = "t as a share of the horizon" if found.schedule.is_discrete else "t in the schedule's unit"
    if not slope.singular:
        finding = f"sigma of schedule {schedule} has a finite slope at t = 0, {slope.value:.4g} ({unit})"
        return Advice("schedule", f"{finding}, so theorem 3.1 concerns no target.", "", "exact, from the schedule's formula")
    near = f"sigma of schedule {schedule} has an infinite slope at t = 0 (sqrt(t) d sigma/dt tends to {slope.value:.4g}, {unit})"
    if found.is_singular:
        finding = f"{near}, and the ideal output of target {target!r} has it too (theorem 3.1)"
        return Advice("schedule", f"{finding}.", "", "a theorem about the ideal output; a trained network may be smoother or steeper")
    return Advice("schedule", f"{near}, but the ideal output of target {target!r} does not.", "", "a theorem about the ideal output")


def _of_lipschitz(found: Measurements, verdict: Verdict) -> Advice:
    curve, means, steepness = found.lipschitz, found.summary(found.lipschitz), _steepness(found)
    name = "K(t, t+1)" if found.schedule.is_discrete else "K(t, t')"
    error = f"; the standard error of K at the first time is {curve.se[0]:.1g}" if curve.images > 1 else ", without a standard error"
    certainty = f"measured on {_images(curve.images)}{error}"
    if found.is_shared:
        edges, beyond, k = means["edges"] or 0.0, means["beyond"], int(curve.mean.argmax())
        error = f", ± {curve.se[k]:.1g} where K is largest" if curve.images > 1 else ""
        certainty = f"inside by construction; at the edges measured on {_images(curve.images)}{error}"
        jump = f", {edges / beyond:.3g} times the mean beyond" if beyond else ""
        finding = (
            f"{name} is {means['inside'] or 0.0:.3g} inside the sub-intervals of {found.shared_range}, {edges:.4g} per step at their edges"
        )
        return Advice("smoothness", f"{finding}{jump}.", "", certainty)
    ratio = "" if steepness is None else f", {steepness:.3g} times that of {means['beyond']:.4g} beyond {found.edges[-1]:.4g}"
    first = means["first interval"]
    mean = "" if first is None else f"; its mean in the first sub-interval is {first:.4g}{ratio}"
    floor = torch.finfo(found.dtype).eps * found.awareness.norm.mean().item()
    coarse = f" In {_dtype(found)} differences below about {floor:.2g} are rounding." if 0 < curve.mean[0] < 3 * floor else ""
    caution = " It means nothing here, see time-awareness." if verdict in ("ignores-t", "untrained") else ""
    finding = f"{name} at t = {curve.t[0]:.4g} is {curve.mean[0]:.4g} per step{mean}."
    return Advice("smoothness", f"{finding}{caution}{coarse}", "", certainty)


def _of_sharing(found: Measurements, verdict: Verdict) -> Advice:
    assert found.lipschitz_shared is not None
    assert found.loss_shared is not None
    shared, own = found.summary(found.lipschitz_shared), found.summary(found.lipschitz)
    before, after = (curve.over(found.edges[0], found.edges[-1]) for curve in (found.loss, found.loss_shared))
    edges = "" if shared["edges"] is None else f" and {shared['edges']:.4g} per step at their edges (as it is: {own['edges'] or 0.0:.4g})"
    finding = f"With conditions shared in {found.shared_range} K of these weights is 0 inside sub-intervals{edges}"
    certainty = f"measured on {_images(found.images)}, without any training"
    if not (before and after is not None):
        return Advice("shared conditions", f"{finding}.", "", certainty)
    change = after / before - 1
    finding = f"{finding}; the loss there goes from {before:.4g} to {after:.4g} ({change:+.1%}) before any training"
    is_advised = verdict in ("share", "not-steep") and change > 0.01
    action = "Train or fine-tune with shared conditions; to switch them on for sampling alone adds this error." if is_advised else ""
    return Advice("shared conditions", f"{finding}.", action, certainty)


def _of_updates(found: Measurements) -> Advice:
    drawn, low = found.time_sampler.type_name, found.loss.over(found.edges[0], found.edges[-1])
    finding = f"{100 * found.updates:.3g} % of training times drawn by {drawn!r} fall in {found.shared_range}"
    beyond = found.loss.over(found.edges[-1], float("inf"))
    if low is not None and beyond:
        finding = f"{finding}, where the loss is {low:.4g}, {low / beyond:.3g} times that beyond"
    share = "exact" if isinstance(found.time_sampler, Uniform) else "an estimate from draws"
    return Advice("training", f"{finding}.", "", f"the share is {share}; the loss is measured on {_images(found.images)}")


def _of_verdict(found: Measurements, verdict: Verdict) -> Advice:
    finding, action, certainty = next(text for name, text in _verdicts(found) if name == verdict)
    return Advice("what to do", finding, action, certainty)


def _verdicts(found: Measurements) -> Iterator[tuple[Verdict, tuple[str, str, str]]]:
    yield "untrained", ("There is nothing to judge yet.", "Train it, or give other weights.", "certain")
    if found.one_condition:
        same = "Its condition map gives all times one condition; how the network uses t cannot be seen."
        yield "ignores-t", (same, "Give it a condition map under which large times differ, train, and diagnose again.", "certain")
    blind = "Shared conditions cannot help a network that ignores t."
    yield "ignores-t", (blind, "Mend the time input first, then diagnose again.", "certain")
    yield "shared", ("It shares conditions already; nothing is to be changed.", "", "certain: the map is part of the model")
    steep = f"The model is steep in time where the theorem says so: share conditions before t = {found.edges[-1]:.4g}."
    yield "share", (steep, _share_line(found), f"the paper reports better samples on its data sets; for this model {UNKNOWN}")
    steepness = _steepness(found)
    gentle = (
        f"The ideal output is infinitely steep at t = 0, but K in the first sub-interval is {steepness or 0:.3g} times that beyond, "
        f"less than {STEEP:g}: shared conditions may change little, and cost little."
    )
    yield "not-steep", (gentle, _share_line(found), f"a small effect is likely; {UNKNOWN}")
    finite = "The ideal output has a finite slope at t = 0; the reason for shared conditions is missing"
    if steepness is not None and steepness >= STEEP:
        finite = f"{finite}, though K is {steepness:.3g} times as large in the first sub-interval as beyond the last"
    yield "not-concerned", (f"{finite}.", "", f"theorem 3.1; {UNKNOWN}")


def _share_line(found: Measurements) -> str:
    """The lines that share conditions, of a recipe and of another training loop."""
    sharing, own = _as_text(found.sharing), found.condition_map
    recipe = sharing if isinstance(own, Identity) else f"{{type: compose, maps: [{sharing}, {_as_text(own)}]}}"
    line = f"in a recipe, model.condition_map: {recipe}"
    if isinstance(found.sharing, ETSDM) and found.schedule.is_discrete and isinstance(own, Identity):
        horizon = "" if found.schedule.horizon == HORIZON else f", horizon={found.schedule.horizon:g}"
        call = f"etsdm.share_timesteps(model, t_tilde={found.sharing.t_tilde:g}, n={found.sharing.n}{horizon})"
        line = f"{line}; in another training loop, {call}"
    return f"{line}; then train or fine-tune, and sample with the same map."


def _other_ways(found: Measurements) -> list[Advice]:
    modified, default = f"modified-{found.schedule.type_name}", "modified-linear" + ("" if found.schedule.is_discrete else "-continuous")
    finite = modified if modified in schedules.names() else default
    remap = "" if found.condition_map.is_remap else "a remap (condition_map: {type: sigma}) or "
    finding = f"For a new training there are other ways: {remap}a schedule with a finite slope at t = 0, such as {finite}."
    return [Advice("other ways", finding, "", f"the paper compares them with shared conditions, which do better there; {UNKNOWN}")]


def _as_text(condition_map: ConditionMap) -> str:
    if isinstance(condition_map, ETSDM):
        return f"{{type: e-tsdm, t_tilde: {condition_map.t_tilde:g}, n: {condition_map.n}}}"
    return json.dumps(condition_map.model_dump(mode="json")).replace('"', "")


def _name(schedule: Schedule) -> str:
    """Name of a schedule, with the fields that are not the defaults."""
    fields = schedule.model_dump(mode="json", exclude_defaults=True)
    changed = ", ".join(f"{name} {value}" for name, value in fields.items() if name != "type")
    return f"{schedule.type_name!r} ({changed})" if changed else repr(schedule.type_name)


def _images(n: int) -> str:
    return f"{n} image" if n == 1 else f"{n} images"


def _size(share: float) -> str:
    return f"{share:.3g} times its size" if share >= 2 else f"{100 * share:.3g} % of its size"


def _dtype(found: Measurements) -> str:
    return str(found.dtype).removeprefix("torch.")
