"""The plan of `etsdm run` with reasons and cost, as tables and lines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import typer
from rich.table import Table

from etsdm.cli.display import console, stage_title
from etsdm.cli.run_cost import cost_notes, cost_table, work_table
from etsdm.errors import DataError, RecipeError
from etsdm.experiment import Experiment
from etsdm.runs import STAGES, StagePlan
from etsdm.runs.cost import Cost, cost_of, work
from etsdm.runs.launch import jobs_for, threads_for
from etsdm.runs.step_time import StepTime, time_step

__all__ = ["RunPlan", "plan_lines", "plan_runs", "print_plan"]

DONE, TO_DO = "done", "to do"


class RunPlan(NamedTuple):
    """Remaining work of one run. Fields: label and arm; training, its digest; trained_by, another run that trains it first; stages."""

    label: str
    arm: str
    training: str
    trained_by: str | None
    stages: list[StagePlan]


def plan_runs(experiment: Experiment, kinds: tuple[str, ...]) -> list[RunPlan]:
    """Remaining work of every run. Args: kinds: of stages."""
    found, trained_by = [], dict[str, str]()
    for run in experiment.runs:
        first = trained_by.setdefault(run.digests.train, run.label)
        found.append(RunPlan(run.label, run.arm, run.digests.train, None if first == run.label else first, run.plan(kinds)))
    return found


def plan_lines(plans: Sequence[RunPlan]) -> list[str]:
    """A line for each stage that is done again or goes on, runs with the same line together."""
    lines: dict[str, list[str]] = {}
    for plan in plans:
        for text in _texts(plan):
            lines.setdefault(text, []).append(plan.label)
    return [f"{', '.join(labels)}: {text}" for text, labels in lines.items()]


def _texts(plan: RunPlan) -> Iterator[str]:
    again: dict[tuple[str, ...], list[str]] = {}
    for stage in plan.stages:
        if stage.finished or (stage.kind == "train" and plan.trained_by):
            continue
        if stage.kind == "evaluate":
            if stage.again:
                again.setdefault(stage.again, []).append(stage.name)
            continue
        title, count = stage_title(stage.kind, stage.name), f"{stage.done:,} of {stage.total:,} {stage.unit}"
        if stage.goes_on_from:
            yield f"{title} goes on from {count}: {'; '.join(stage.again) or 'of a training of another length'}"
            continue
        if stage.again:
            yield f"{title} again: {'; '.join(stage.again)}"
        if 0 < stage.done < stage.total:
            yield f"{title} goes on from {count}"
    for reasons, names in again.items():
        yield f"{', '.join(names)} again: {'; '.join(reasons)}"


def _states(plan: RunPlan, kinds: tuple[str, ...]) -> dict[str, str]:
    """By kind of stage: `done`, `to do`, how much of it is done, how many of several are to do, or the run whose training is shared."""
    states = {}
    for kind in (kind for kind in STAGES if kind in kinds):
        stages = [stage for stage in plan.stages if stage.kind == kind]
        undone = [stage for stage in stages if not stage.finished]
        if not undone:
            states[kind] = DONE
        elif kind == "train" and plan.trained_by:
            states[kind] = f"with {plan.trained_by}"
        elif len(stages) == 1 and undone[0].done:
            states[kind] = f"{undone[0].done:,} of {undone[0].total:,} {undone[0].unit}"
        else:
            states[kind] = TO_DO if len(undone) == len(stages) else f"{len(undone)} of {len(stages)} to do"
    return states


def print_plan(experiment: Experiment, kinds: tuple[str, ...], *, as_json: bool) -> None:
    """Prints what is left of an experiment, why, what it costs, and what is missing. Nothing is written."""
    plans = plan_runs(experiment, kinds)
    costs = {arm: cost_of(recipe) for arm, recipe in experiment.arms.items()}
    steps = _steps(experiment, costs)
    missing = _missing(experiment, kinds)
    every, left = (work([(plan.training, costs[plan.arm], plan.stages) for plan in plans], left=only) for only in (False, True))
    if as_json:
        places = {run.label: run.train.folder.path.name for run in experiment.runs}
        record: dict[str, Any] = {
            "name": experiment.name,
            "runs": [{"run": plan.label, "training": places[plan.label], **_states(plan, kinds)} for plan in plans],
            "stages": {plan.label: [stage._asdict() for stage in plan.stages] for plan in plans},
            "arms": {arm: cost.model_dump(mode="json") for arm, cost in costs.items()},
            "work": {"all": every.model_dump(mode="json"), "left": left.model_dump(mode="json")},
            "steps": {arm: step.model_dump(mode="json") for arm, step in steps.items()},
            "missing": missing,
        }
        typer.echo(json.dumps(record, indent=2))
        return
    table = Table(title=f"{experiment.name} in {experiment.folder.path}")
    for heading in ("run", *kinds):
        table.add_column(heading)
    for plan in plans:
        table.add_row(plan.label, *_states(plan, kinds).values())
    console.print(table)
    for line in plan_lines(plans):
        console.print(line, soft_wrap=True, highlight=False)
    console.print(cost_table(costs))
    seconds, seconds_left = (_seconds(experiment, plans, costs, steps, left=only) for only in (False, True))
    console.print(work_table(every, left, seconds, seconds_left, jobs_for(experiment.runs)))
    for note in cost_notes(steps):
        console.print(note, highlight=False)
    if missing:
        console.print(f"missing: {missing}", soft_wrap=True, highlight=False)


def _missing(experiment: Experiment, kinds: tuple[str, ...]) -> str | None:
    try:
        for run in experiment.runs:
            run.check(kinds)
    except (DataError, RecipeError) as error:
        return str(error)
    return None


def _steps(experiment: Experiment, costs: Mapping[str, Cost]) -> dict[str, StepTime]:
    """The time of a training step of each arm; arms that cost the same share one."""
    threads = threads_for(experiment.runs)
    measured: dict[tuple[str, int], StepTime] = {}
    steps = {}
    for arm, recipe in experiment.arms.items():
        key = repr(costs[arm]), recipe.training.batch_size
        if key not in measured:
            measured[key] = time_step(recipe, costs[arm], threads)
        steps[arm] = measured[key]
    return steps


def _seconds(
    experiment: Experiment, plans: Sequence[RunPlan], costs: Mapping[str, Cost], steps: Mapping[str, StepTime], *, left: bool
) -> float | None:
    """Seconds at the rate of the measured steps, None where one that counts was not measured."""
    total, trained, busy = 0.0, set[str](), 0
    for plan in plans:
        stages = [stage for stage in plan.stages if stage.kind != "train" or plan.training not in trained]
        flops = work([(plan.training, costs[plan.arm], stages)], left=left).flops
        trained.add(plan.training)
        rate = steps[plan.arm].flops_per_second
        if flops and rate is None:
            return None
        total += flops / rate if rate else 0.0
        busy += flops > 0
    return total / max(1, min(jobs_for(experiment.runs), busy))
