"""The record of a diagnosis: its numbers and advice as JSON values."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from etsdm.analysis.diagnosis import LossCurve, Measurements, advise, verdict_of
from etsdm.analysis.lipschitz import LipschitzCurve
from etsdm.runs.environment import environment

__all__ = ["record_of"]

FORMAT = 1


def record_of(m: Measurements, label: str, images: dict[str, Any], trained_images: int | None) -> dict[str, Any]:
    """JSON values of a diagnosis; null where a number is undefined.

    Args:
        m: the measurements.
        label: name of the model.
        images: description of the images.
        trained_images: images seen in training, None where unknown.
    """
    schedule, end = m.schedule, m.edges[-1]
    awareness, slope = m.awareness, m.slope
    own = {"t": m.lipschitz.t, "dt": m.lipschitz.dt, "mode": "shared-x", **_curve(m, m.lipschitz)}
    updates = {"share": m.updates, "time_sampler": m.time_sampler.model_dump(mode="json"), "range": m.shared_range}
    record = {
        "format": FORMAT,
        "model": {
            "label": label,
            "schedule": schedule.model_dump(mode="json"),
            "target": m.target.model_dump(mode="json"),
            "condition_map": m.condition_map.model_dump(mode="json"),
            "dtype": str(m.dtype).removeprefix("torch."),
        },
        "images": images,
        "time": {"label": schedule.t_label, "horizon": schedule.horizon, "is_discrete": schedule.is_discrete, "edges": list(m.edges)},
        "verdict": verdict_of(m),
        "slope_at_zero": {
            "value": slope.value,
            "infinite": slope.singular,
            "is": "limit of sqrt(t) d sigma/dt" if slope.singular else "d sigma/dt",
            "target_concerned": m.is_singular,
        },
        "time_awareness": {
            "value": awareness.value,
            "one_condition": m.one_condition,
            "t": awareness.t,
            "other": awareness.other,
            "change": awareness.change,
            "norm": awareness.norm,
        },
        "lipschitz": {
            **own,
            "unit": m.lipschitz.unit,
            "coupled": _curve(m, m.coupled),
            "shared": None if m.lipschitz_shared is None else _curve(m, m.lipschitz_shared),
            "coupled_shared": None if m.coupled_shared is None else _curve(m, m.coupled_shared),
        },
        "loss": {
            "t": m.loss.t,
            "space": m.target.model_dump(mode="json"),
            **_loss(m.loss, m.edges[0], end),
            "shared": None if m.loss_shared is None else _loss(m.loss_shared, m.edges[0], end),
        },
        "stability": {name: {"t": curve.t_tilde, "r": curve.r, "rms": curve.rms, "se": curve.se} for name, curve in m.stability.items()},
        "shared_conditions": {"condition_map": m.sharing.model_dump(mode="json"), "is_own": m.is_shared},
        "training": {**updates, "images": trained_images, "images_there": None if trained_images is None else m.updates * trained_images},
        "advice": [advice._asdict() for advice in advise(m)],
        "versions": environment(),
    }
    return {name: _plain(value) for name, value in record.items()}


def _curve(m: Measurements, curve: LipschitzCurve) -> dict[str, Any]:
    return {"mean": curve.mean, "se": curve.se, "means": m.summary(curve)}


def _loss(curve: LossCurve, low: float, end: float) -> dict[str, Any]:
    return {"mean": curve.mean, "se": curve.se, "means": {"shared range": curve.over(low, end), "beyond": curve.over(end, math.inf)}}


def _plain(value: Any) -> Any:
    """JSON values of tensors, mappings and lists, with None for numbers that are not finite."""
    if isinstance(value, Tensor):
        return _plain(value.tolist())
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
