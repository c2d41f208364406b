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
        _plan(experiment, kinds, as_json)
        return
    fresh = False
    with goes_on(), ProgressDisplay() as display:
        for event in experiment.execute(kinds, jobs_for(experiment.runs)):
            fresh = fresh or event.finished
            display.show(event)
    if stage is None:
        _finish(experiment, fresh=fresh)
        console.print(summary_table(experiment))
    elif not fresh:
        console.print(f"{experiment.name}: nothing to do up to stage {stage}")


def _plan(experiment: Experiment, kinds: tuple[str, ...], as_json: bool) -> None:
    import json

    from etsdm.cli.display import console, cost_table, plan, plan_table
    from etsdm.errors import DataError, RecipeError
    from etsdm.runs.cost import cost_of

    costs = {arm: cost_of(recipe) for arm, recipe in experiment.arms.items()}
    missing = None
    try:
        for one in experiment.runs:
            one.check(kinds)
    except (DataError, RecipeError) as error:
        missing = str(error)
    if as_json:
        trainings = {one.label: one.train.folder.path.name for one in experiment.runs}
        runs = [{"run": label, "training": trainings[label], **states} for label, states in plan(experiment, kinds).items()]
        arms = {arm: cost.model_dump(mode="json") for arm, cost in costs.items()}
        typer.echo(json.dumps({"name": experiment.name, "runs": runs, "arms": arms, "missing": missing}, indent=2))
        return
    console.print(plan_table(experiment, kinds))
    console.print(cost_table(costs, experiment))
    if missing:
        console.print(f"missing: {missing}", soft_wrap=True, highlight=False)


def _finish(experiment: Experiment, *, fresh: bool) -> None:
    from etsdm.cli.display import console

    current = experiment.report_is_current()
    report = experiment.report()
    if not fresh:
        console.print(f"{experiment.name}: every stage is done already{'' if current else ', the report was written anew'}")
    console.print(f"report: {report}", soft_wrap=True)
