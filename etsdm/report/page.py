"""`write_report`: one HTML file that opens offline, from an experiment's folder alone."""

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
from etsdm.storage.faults import storage_errors
from etsdm.storage.files import read_record, write_atomically

__all__ = ["write_report"]


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
    edges = intervals_of(contents)
    drawn: dict[str, list[tuple[str, str]]] = {"training": [("", training_figure(contents.first_runs()))]}
    for name in ("lipschitz", "loss"):
        drawn[name] = [(str(key), curves_figure(curves, edges)) for key, curves in contents.curves(name).items()]
    drawn["classes"] = [(str(key), histogram_figure(histograms)) for key, histograms in contents.histograms("classes").items()]
    return {section: [(title, _data_uri(svg.encode(), "image/svg+xml")) for title, svg in figures] for section, figures in drawn.items()}


def _runs(contents: Contents) -> list[dict[str, Any]]:
    """Samples, times, environment and recipe of each arm."""
    entries = []
    for arm, run in contents.first_runs().items():
        trained = run.training.finished()
        drawn = {name: run.folder.samples(name) for name in run.samplings}
        seconds = {"sample": sum(record.seconds for folder in drawn.values() if (record := folder.finished()))}
        entries.append(
            {
                "arm": arm,
                "samples": {name: _data_uri(folder.grid_file.read_bytes(), "image/png") for name, folder in drawn.items()},
                "condition_map": json.dumps(run.recipe["model"]["condition_map"]),
                "training": run.training.path.name,
                "seconds": {"train": trained.seconds if trained else None, **seconds, "evaluate": sum(run.seconds.values())},
                "rate": trained.facts["images_per_second"] if trained else None,
                "environment": read_record(run.training.environment_file),
                "protocols": run.protocols,
                "recipe": run.folder.recipe_file.read_text(),
            }
        )
    return entries


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
