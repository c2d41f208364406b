"""The page of a diagnosis: one HTML file that opens offline."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from etsdm.analysis import LipschitzCurve
from etsdm.analysis.diagnosis import LossCurve, Measurements
from etsdm.metrics import Curve
from etsdm.report.figures import curves_figure
from etsdm.storage.faults import storage_errors
from etsdm.storage.files import write_atomically

__all__ = ["key_numbers", "write_page"]

AnyCurve = LipschitzCurve | LossCurve

AS_IS, SHARED = "as it is", "shared conditions"
REACH = 2  # last edges that the detailed figures show


@storage_errors()
def write_page(path: Path, measured: Measurements, record: dict[str, Any]) -> Path:
    """Writes the page.

    Args:
        path: of the file.
        measured: the measurements, for the figures.
        record: the record of the diagnosis, for numbers and text.
    """
    template = files("etsdm.report").joinpath("diagnosis.html.j2").read_text()
    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(template)
    write_atomically(path, page.render(record=record, rows=key_numbers(record), figures=_figures(measured), pairs=_pairs, number=_number))
    return path


def key_numbers(record: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The rows of a short table: name, value as it is, and value with shared conditions where there is one."""
    k, loss, time, slope = record["lipschitz"], record["loss"], record["time"], record["slope_at_zero"]
    there, end = record["training"]["range"], f"{time['edges'][-1]:.4g}"
    infinite = f"infinite, {'concerns' if slope['target_concerned'] else 'does not concern'} {record['model']['target']['type']}"
    rows = [
        ("time-awareness", f"{record['time_awareness']['value']:.3g}", ""),
        ("slope of sigma at t = 0", infinite if slope["infinite"] else f"{slope['value']:.4g}", ""),
        (f"K per step at t = {k['t'][0]:.4g}", _number(k["means"]["first"]), _of(k["shared"], "first")),
    ]
    for name, title in (
        ("inside", f"K inside sub-intervals of {there}"),
        ("first interval", "K in the first of them"),
        ("edges", "K at their edges"),
        ("beyond", f"K beyond {end}"),
    ):
        if k["means"][name] is not None:
            rows.append((title, _number(k["means"][name]), _of(k["shared"], name)))
    for name, title in (("edges", "K at edges, x changing too"), ("inside", "K inside, x changing too")):
        if k["coupled"]["means"][name] is not None:
            rows.append((title, _number(k["coupled"]["means"][name]), _of(k["coupled_shared"], name)))
    rows.append((f"loss in {there}", _number(loss["means"]["shared range"]), _of(loss["shared"], "shared range")))
    rows.append((f"loss beyond {end}", _number(loss["means"]["beyond"]), _of(loss["shared"], "beyond")))
    for reading, curve in record["stability"].items():
        rows.append((f"change of x0, {reading}, by noise {curve['r'][-1]:g}", _number(curve["rms"][-1]), ""))
    training = record["training"]
    seen = "" if training["images_there"] is None else f", {training['images_there']:,.0f} of {training['images']:,} images"
    rows.append((f"training times in {there}", f"{100 * training['share']:.3g} %{seen}", ""))
    return rows


def _pairs(awareness: dict[str, Any]) -> list[tuple[float, ...]]:
    return list(zip(*(awareness[name] for name in ("t", "other", "change", "norm")), strict=True))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _of(curve: dict[str, Any] | None, name: str) -> str:
    return "" if curve is None else _number(curve["means"][name])


def _figures(m: Measurements) -> dict[str, list[str]]:
    k_name = "K(t, t+1)" if m.schedule.is_discrete else "K(t, t'), per step"
    own = "shared conditions (its own)" if m.is_shared else AS_IS
    measured: dict[str, tuple[AnyCurve, AnyCurve | None]] = {
        "lipschitz": (m.lipschitz, m.lipschitz_shared),
        "coupled": (m.coupled, m.coupled_shared),
        "loss": (m.loss, m.loss_shared),
    }
    labels = {"lipschitz": k_name, "coupled": f"{k_name}, x changing too", "loss": f"loss, {m.target.type_name}"}
    figures: dict[str, list[str]] = {}
    for name, (as_it_is, shared) in measured.items():
        drawn = {own: _drawn(m, as_it_is, labels[name])}
        if shared is not None:
            drawn[SHARED] = _drawn(m, shared, labels[name])
        figures[name] = [_picture(part, m.edges) for part in _parts(m, drawn)]
    return figures


def _parts(m: Measurements, curves: dict[str, Curve]) -> list[dict[str, Curve]]:
    """The curves as far as twice the last edge, and whole; whole alone on a logarithmic axis, which resolves the first times itself."""
    t = next(iter(curves.values())).t
    near = sum(time <= REACH * m.edges[-1] for time in t)
    if m.schedule.time_is_noise_level or near < 2 or near == len(t):
        return [curves]
    return [{name: _first(curve, near) for name, curve in curves.items()}, curves]


def _first(curve: Curve, n: int) -> Curve:
    return curve.model_copy(update={"t": curve.t[:n], "mean": curve.mean[:n], "se": curve.se and curve.se[:n]})


def _picture(curves: dict[str, Curve], edges: Sequence[float]) -> str:
    return _data_uri(curves_figure({name: [curve] for name, curve in curves.items()}, edges))


def _drawn(m: Measurements, curve: AnyCurve, label: str) -> Curve:
    t, mean = tuple(curve.t.tolist()), tuple(curve.mean.tolist())
    se = tuple(curve.se.tolist()) if curve.images > 1 else None
    noise_level = m.schedule.time_is_noise_level
    return Curve(t=t, mean=mean, se=se, t_label=m.schedule.t_label, label=label, log_scale=True, log_time=noise_level)


def _data_uri(svg: str) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
