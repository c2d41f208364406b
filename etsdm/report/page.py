"""`write_report`: one HTML file that opens offline, made from an experiment's folder alone."""

from __future__ import annotations

import base64
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from etsdm.report.contents import Contents, gather
from etsdm.report.figures import curves_figure, histogram_figure, intervals_of, training_figure
from etsdm.runs.folder import ExperimentFolder
from etsdm.storage.files import read_record, write_atomically

__all__ = ["write_report"]


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


def _figures(contents: Contents) -> dict[str, str]:
    edges = intervals_of(contents)
    drawn: dict[str, str] = {"training": training_figure(contents.shown())}
    if any(contents.curves("lipschitz").values()):
        drawn["lipschitz"] = curves_figure(contents.curves("lipschitz"), edges)
    if any(contents.curves("loss").values()):
        drawn["loss"] = curves_figure(contents.curves("loss"), edges)
    if contents.histograms("classes"):
        drawn["classes"] = histogram_figure(contents.histograms("classes"))
    return {name: _data_uri(svg.encode(), "image/svg+xml") for name, svg in drawn.items()}


def _runs(contents: Contents) -> list[dict[str, Any]]:
    """What is shown of each arm: samples, times, environment and recipe."""
    shown = []
    for arm, run in contents.shown().items():
        stages = {name: run.folder.stage(name) for name in ("train", "sample", "evaluate")}
        shown.append(
            {
                "arm": arm,
                "samples": _data_uri(run.folder.grid_file.read_bytes(), "image/png"),
                "condition_map": json.dumps(run.recipe["model"]["condition_map"]),
                "seconds": {name: record.seconds for name, record in stages.items() if record},
                "rate": stages["train"].facts["images_per_second"] if stages["train"] else None,
                "environment": read_record(run.folder.environment_file),
                "protocols": run.protocols,
                "recipe": run.folder.recipe_file.read_text(),
            }
        )
    return shown


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
