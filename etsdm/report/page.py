"""`write_report`: one HTML file that opens offline, from an experiment's folder alone."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from etsdm.metrics import Curve
from etsdm.recipe.compare import MISSING, differences
from etsdm.report.contents import Contents, gather
from etsdm.report.figures import curves_figure, histogram_figure, intervals_of, training_figure
from etsdm.runs.folder import ExperimentFolder, SampleFolder
from etsdm.storage.faults import storage_errors
from etsdm.storage.files import write_atomically

__all__ = ["write_report"]

MAX_VALUE = 120  # characters of a field below samples


@storage_errors()
def write_report(folder: ExperimentFolder) -> Path:
    """Writes `report.html`, which compares the arms of an experiment.

    Args:
        folder: of an experiment with one finished run or more.

    Returns:
        The report's path.

    Raises:
        DataError: no run is finished.
    """
    contents = gather(folder)
    template = files("etsdm.report").joinpath("report.html.j2").read_text()
    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(template)
    write_atomically(folder.report_file, page.render(contents=contents, figures=_figures(contents), runs=_runs(contents)))
    return folder.report_file


def _figures(contents: Contents) -> dict[str, list[tuple[str, str]]]:
    """Figures of each section of the page, with their titles."""
    drawn: dict[str, list[tuple[str, str]]] = {"training": [("", training_figure(contents.first_runs()))]}
    for name in ("lipschitz", "loss"):
        found = contents.curves(name).items()
        groups = [(str(key), curves) for key, of_arms in found for curves in _by_axis(of_arms)]
        drawn[name] = [(title, curves_figure(curves, intervals_of(contents, curves))) for title, curves in groups]
    drawn["classes"] = [(str(key), histogram_figure(histograms)) for key, histograms in contents.histograms("classes").items()]
    return {section: [(title, _data_uri(svg.encode(), "image/svg+xml")) for title, svg in figures] for section, figures in drawn.items()}


def _by_axis(of_arms: dict[str, list[Curve]]) -> list[dict[str, list[Curve]]]:
    """Curves of arms grouped by the variable and the range of their times, so that each figure has one axis."""
    groups: dict[tuple[str, float], dict[str, list[Curve]]] = {}
    for arm, curves in of_arms.items():
        groups.setdefault((curves[0].t_label, round(math.log10(max(curves[0].t[-1], 1e-9)))), {})[arm] = curves
    return list(groups.values())


def _runs(contents: Contents) -> list[dict[str, Any]]:
    """Samples, times, environment and recipe of each arm."""
    entries, fields = [], _changed_fields({arm: run.recipe for arm, run in contents.first_runs().items()})
    for arm, run in contents.first_runs().items():
        trained = run.training.finished()
        drawn = {name: run.folder.samples(name) for name in run.samplings}
        seconds = {"sample": sum(record.seconds for folder in drawn.values() if (record := folder.finished()))}
        entries.append(
            {
                "arm": arm,
                "samples": {name: _grid(folder, run.manifest.samples[name]) for name, folder in drawn.items() if _has_grid(folder)},
                "fields": fields[arm],
                "training": run.training.path.name,
                "seconds": {"train": trained.seconds if trained else None, **seconds, "evaluate": sum(run.seconds.values())},
                "rate": trained.facts["images_per_second"] if trained else None,
                "passed_over": trained.facts.get("passed_over", {}) if trained else {},
                "environment": run.training.environment(run.manifest.train),
                "protocols": run.protocols,
                "recipe": run.folder.recipe(),
            }
        )
    return entries


def _grid(folder: SampleFolder, digest: str) -> str:
    return _data_uri(folder.grid(digest), "image/png")


def _has_grid(folder: SampleFolder) -> bool:
    """Whether samples are pictures; those of points and other numbers have no grid."""
    record = folder.finished()
    return record is None or record.facts.get("pictures", True) is not False


def _changed_fields(recipes: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """By arm, the fields in which arms differ from the first; of one arm alone, the condition map."""
    first = next(iter(recipes.values()))
    found = {arm: {one.path: (one.a, one.b) for one in differences(first, recipe)} for arm, recipe in recipes.items()}
    changed = list(dict.fromkeys(path for of_arm in found.values() for path in of_arm)) or ["model.condition_map"]
    before = {path: values[0] for of_arm in found.values() for path, values in of_arm.items()}
    before.setdefault("model.condition_map", first["model"]["condition_map"])
    return {arm: {path: _text(of_arm[path][1] if path in of_arm else before[path]) for path in changed} for arm, of_arm in found.items()}


def _text(value: Any) -> str:
    if value is MISSING:
        return "none"
    text = value["type"] if isinstance(value, dict) and value.keys() == {"type"} else json.dumps(value)
    return text if len(text) <= MAX_VALUE else f"{text[: MAX_VALUE - 3]}..."


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
