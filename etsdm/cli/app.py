"""`etsdm`: its commands, and the messages and exit codes of errors."""

from __future__ import annotations

import sys

import typer

from etsdm.cli import doctor, lipschitz, parts, plan, recipe, report, run, sample

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
app.command("report")(report.report)
app.command("parts")(parts.parts)
app.add_typer(recipe.app, name="recipe")
app.command("doctor")(doctor.doctor)


@app.callback(invoke_without_command=True)
def _version(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if version:
        from importlib.metadata import version as version_of

        typer.echo(f"etsdm {version_of('etsdm')}")
        raise typer.Exit


def main() -> None:
    """Runs the command line. Exits with 2 for mistakes of the user, 1 for other errors, 130 after Ctrl-C."""
    try:
        app()
    except Exception as error:
        # Not at the top, for a quick `--help`.
        from etsdm.errors import EtsdmError

        if not isinstance(error, EtsdmError):
            raise
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
