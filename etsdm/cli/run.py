"""`etsdm run`: train, sample, measure and compare what a recipe describes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from etsdm.experiment import Experiment

__all__ = ["run"]

RecipeArgument = Annotated[str, typer.Argument(metavar="RECIPE", help="Path of a recipe, or the name of one (`etsdm recipe list`).")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Changes, for example training.images=20000.")]


def run(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option(help="Folder of all experiments.")] = Path("runs"),
    arm: Annotated[str | None, typer.Option(help="One arm only.")] = None,
    stage: Annotated[str | None, typer.Option(help="Stop after this stage: train, sample or evaluate.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done and what it costs, and do nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --dry-run, print JSON.")] = False,
) -> None:
    """Train, sample, measure and compare what a recipe describes.

    Stages that are finished are not done again; a run that was stopped goes on.
    """
    from etsdm.cli.display import ProgressDisplay, console, summary_table
    from etsdm.cli.run_plan import plan_lines, plan_runs, print_plan
    from etsdm.cli.waiting import goes_on
    from etsdm.errors import RecipeError
    from etsdm.experiment import build
    from etsdm.registry import suggestion
    from etsdm.runs import STAGES
    from etsdm.runs.launch import jobs_for

    if stage is not None and stage not in STAGES:
        raise RecipeError(f"--stage: {stage!r} is no stage; {suggestion(stage, STAGES, 'stages')}")
    experiment = build(recipe, *(overrides or ()), out=out)
    if arm is not None:
        experiment = experiment.arm(arm)
    kinds = STAGES if stage is None else STAGES[: STAGES.index(stage) + 1]
    if as_json and not dry_run:
        raise RecipeError("--json: prints the plan of --dry-run; give both, or neither")
    if dry_run:
        print_plan(experiment, kinds, as_json=as_json)
        return
    fresh = False
    with goes_on(), ProgressDisplay() as display:
        for line in plan_lines(plan_runs(experiment, kinds)):
            console.print(line, soft_wrap=True, highlight=False)
        for event in experiment.execute(kinds, jobs_for(experiment.runs)):
            fresh = fresh or event.finished
            display.show(event)
    if stage is None:
        _finish(experiment, fresh=fresh)
        console.print(summary_table(experiment))
    elif not fresh:
        console.print(f"{experiment.name}: nothing to do up to stage {stage}")


def _finish(experiment: Experiment, *, fresh: bool) -> None:
    from etsdm.cli.display import console

    current = experiment.report_is_current()
    report = experiment.report()
    if not fresh:
        console.print(f"{experiment.name}: every stage is done already{'' if current else ', the report was written anew'}")
    console.print(f"report: {report}", soft_wrap=True)
