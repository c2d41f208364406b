"""K curves as JSON values, as CSV text, and as the few rows that fit a screen."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from etsdm.analysis.lipschitz import LipschitzCurve

__all__ = ["csv_text", "distance_of", "json_record", "selected_rows"]

FIRST_ROWS = 5
ROUND_STEPS = (1, 2, 5)  # times a power of ten: the rows of a logarithmic axis


def json_record(curves: Mapping[str, LipschitzCurve], main: str, protocol: Mapping[str, Any]) -> dict[str, Any]:
    """Curves as JSON values, with null where there is no standard error.

    Args:
        curves: by name.
        main: name of the curve whose t, mean and se stand at the top.
        protocol: of the measurement.
    """
    curve = curves[main]
    others = {name: _numbers(other) for name, other in curves.items()}
    facts = {"unit": curve.unit, "mode": curve.mode, "dt": distance_of(curve), "images": curve.images}
    return {**_numbers(curve), **facts, "curve": main, "curves": others, "protocol": dict(protocol)}


def distance_of(curve: LipschitzCurve) -> float | list[float]:
    """The distance in time of a curve's pairs, a list where it is not the same for all."""
    distances: list[float] = curve.dt.tolist()
    return distances[0] if len(set(distances)) == 1 else distances


def csv_text(curves: Mapping[str, LipschitzCurve], protocol: Mapping[str, Any]) -> str:
    """Curves as CSV, a row for each curve and time, with protocol and unit in comments (`#`); an empty cell for no standard error."""
    unit = next(iter(curves.values())).unit
    lines = [f"# {key}: {json.dumps(value)}" for key, value in {**protocol, "unit": unit}.items()]
    lines.append("curve,t,mean,se")
    for name, curve in curves.items():
        quoted = '"' + name.replace('"', '""') + '"' if set(name) & set(',"\n') else name
        numbers = _numbers(curve)
        for t, mean, se in zip(numbers["t"], numbers["mean"], numbers["se"], strict=True):
            lines.append(f"{quoted},{t!r},{mean!r},{'' if se is None else repr(se)}")
    return "\n".join(lines) + "\n"


def selected_rows(curve: LipschitzCurve, edges: Iterable[float]) -> list[int]:
    """Indices of the points for one screen: the first, those near 1, 2, 5, 10, ... steps, the jumps at edges, and the last."""
    step = curve.step[0].item()
    uniform = bool((curve.step == step).all())
    steps = (curve.t / step).tolist() if uniform else [float(k + 1) for k in range(len(curve.t))]
    chosen = {*range(min(FIRST_ROWS, len(steps))), len(steps) - 1}
    decades = range(math.ceil(math.log10(max(steps[-1], 1))) + 1)
    wanted = [digit * 10**decade for decade in decades for digit in ROUND_STEPS]
    for value in wanted:
        chosen |= {k for k, found in enumerate(steps) if abs(found - value) < 1e-6 * max(value, 1)}
    # An edge belongs to the point before it, whose neighbour is on the other side.
    slack = 1e-9 * curve.horizon
    for edge in edges:
        jumps = torch.nonzero((curve.t < edge - slack) & (edge - slack <= curve.t + curve.dt)).flatten().tolist()
        chosen |= set(jumps[:1])
    return sorted(chosen)


def _numbers(curve: LipschitzCurve) -> dict[str, list[float | None]]:
    return {"t": _plain(curve.t), "mean": _plain(curve.mean), "se": _plain(curve.se)}


def _plain(values: Tensor) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values.tolist()]
