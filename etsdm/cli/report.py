"""`etsdm report`: write the report of a folder anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["report"]


def report(folder: Annotated[Path, typer.Argument(help="An experiment's folder, for example runs/digits.")]) -> None:
    """Write the HTML report of finished runs, from their folder alone."""
    from etsdm.report import write_report
    from etsdm.runs.folder import ExperimentFolder

    typer.echo(write_report(ExperimentFolder(folder)))
