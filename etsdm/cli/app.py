"""`etsdm`: its commands, and the messages and exit codes of errors."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import typer

from etsdm.cli import convert, data, diagnose, doctor, export, lipschitz, parts, plan, recipe, report, run, sample

__all__ = ["app", "main"]

app = typer.Typer(
    name="etsdm",
    help="Diffusion models that are smooth in time: train, sample and measure from recipes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("run")(run.run)
app.command("sample")(sample.sample)
app.command("plan")(plan.plan)
app.command("lipschitz")(lipschitz.lipschitz)
app.command("convert")(convert.convert)
app.command("export")(export.export)
app.command("diagnose")(diagnose.diagnose)
app.command("report")(report.report)
app.command("parts")(parts.parts)
app.add_typer(recipe.app, name="recipe")
app.add_typer(data.app, name="data")
app.command("doctor")(doctor.doctor)


@app.callback(invoke_without_command=True)
def _version(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if version:
        from importlib.metadata import version as version_of

        typer.echo(f"etsdm {version_of('etsdm')}")
        raise typer.Exit


def main() -> None:
    """Runs the command line. Exits with 2 for mistakes of the user and faults of files, 1 for other errors, 130 after Ctrl-C."""
    _show_warnings()
    try:
        try:
            app()
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # here, where a full disk is reported as any other
    except Exception as error:
        sys.exit(_report(error))


def _show_warnings() -> None:
    """Makes the warnings of the library the program's own: one line each on stderr, each text once."""
    import warnings

    shown: set[str] = set()

    def show(message: Warning | str, *place: Any, **named: Any) -> None:
        from etsdm.errors import printable

        text = printable(" ".join(str(message).split()))
        if text not in shown:
            shown.add(text)
            with suppress(OSError):
                typer.echo(f"warning: {text}", err=True)

    warnings.showwarning = show


def _report(error: Exception) -> int:
    """Prints the message of an expected error. Returns: the exit code. Raises: all other errors."""
    # Not at the top, for a quick `--help`.
    from etsdm.errors import EtsdmError
    from etsdm.storage.faults import storage_error

    if isinstance(error, OSError) and not isinstance(error, EtsdmError):
        if error.filename is None:
            _close_stdout()
        if isinstance(error, BrokenPipeError):
            return 1  # the reader, such as head, has had enough
        error = storage_error(error, Path("standard output"))
    if not isinstance(error, EtsdmError):
        raise error
    with suppress(OSError):
        typer.echo(f"error: {error}", err=True)
    return error.exit_code


def _close_stdout() -> None:
    """Discards what is still to be printed, which could not be written when Python ends either."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
