"""Progress of several runs, plans and summaries on the terminal."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from etsdm.experiment import Experiment
from etsdm.runs import STAGES
from etsdm.runs.cost import FLOPS_PER_SECOND, Cost
from etsdm.runs.launch import Event
from etsdm.sampling.config import DEFAULT_SAMPLING

__all__ = ["ProgressDisplay", "console", "cost_table", "plan", "plan_table", "scaled", "summary_table"]

console = Console(markup=False, emoji=False)  # brackets and colons of paths and names stay as they are

PLAIN_INTERVAL_S = 10.0  # between the lines of one run where there is no terminal


class ProgressDisplay:
    """A bar for each run and stage on a terminal; a line now and then elsewhere."""

    def __init__(self) -> None:
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}", markup=False),
            TextColumn("{task.fields[rate]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks: dict[tuple[str, str], TaskID] = {}
        self._began: dict[tuple[str, str], tuple[float, int]] = {}
        self._printed: dict[tuple[str, str], float] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bars.stop()

    def show(self, event: Event) -> None:
        """Shows one event."""
        progress = event.progress
        if progress is None or progress.reused:
            return
        key, now = (event.label, progress.label), time.monotonic()
        since, at = self._began.setdefault(key, (now, progress.done))
        rate = (progress.done - at) / (now - since) if now > since else 0.0
        speed = f"{rate:,.0f} {progress.unit}/s" if rate >= 1 else ""
        if progress.loss is not None:
            speed = f"{speed} loss {progress.loss:.4g}".lstrip()
        title = f"{event.label}: {progress.label}"
        if console.is_terminal:
            if key not in self._tasks:
                self._tasks[key] = self._bars.add_task(title, total=progress.total, unit=progress.unit, rate="")
            self._bars.update(self._tasks[key], completed=progress.done, rate=speed)
        elif progress.done == progress.total or now - self._printed.get(key, -PLAIN_INTERVAL_S) >= PLAIN_INTERVAL_S:
            self._printed[key] = now
            console.print(f"{title} {progress.done}/{progress.total} {progress.unit} {speed}".rstrip(), highlight=False)


def plan_table(experiment: Experiment, kinds: tuple[str, ...]) -> Table:
    """Which stages of which runs are done."""
    table = Table(title=f"{experiment.name} in {experiment.folder.path}")
    for heading in ("run", *kinds):
        table.add_column(heading)
    for label, stages in plan(experiment, kinds).items():
        table.add_row(label, *stages.values())
    return table


def plan(experiment: Experiment, kinds: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """By run and kind of stage: `done`, `to do`, how many of several are to do, or the run whose training is shared."""
    found, trained_by = {}, dict[str, str]()
    for run in experiment.runs:
        stages = run.stages()
        states = {kind: _state([stage.is_done() for stage in stages if stage.kind == kind]) for kind in STAGES if kind in kinds}
        first = trained_by.setdefault(run.digests.train, run.label)
        if "train" in states and first != run.label and states["train"] != "done":
            states["train"] = f"with {first}"
        found[run.label] = states
    return found


def _state(done: list[bool]) -> str:
    if all(done):
        return "done"
    return "to do" if not any(done) else f"{done.count(False)} of {len(done)} to do"


def cost_table(costs: Mapping[str, Cost], experiment: Experiment) -> Table:
    """Cost of a run of each arm; one column where all arms cost the same. Args: costs by arm; experiment, for what its runs share."""
    columns = costs if len(set(map(repr, costs.values()))) > 1 else {"a run": next(iter(costs.values()))}
    trainings = {run.digests.train: costs[run.arm].training_days for run in experiment.runs}
    samplings = sum(len(run.recipe.samplings) for run in experiment.runs)
    days = sum(trainings.values()) + sum(costs[run.arm].sampling_days for run in experiment.runs)
    counted = " and ".join(f"{n} {noun}{'' if n == 1 else 's'}" for n, noun in ((len(trainings), "training"), (samplings, "sampling")))
    table = Table(
        title=f"cost of {counted}: {_time(days)} on one device that sustains {scaled(FLOPS_PER_SECOND)}FLOP/s",
        caption="FLOPs: matrix products, convolutions, attention; a multiply-add is two. Training state: weights, gradients, Adam, "
        "moving average in float32. Activations: what is kept of a batch for the backward pass in float32, attention by a fused kernel; "
        "that pass needs some memory besides.",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("")
    for name in columns:
        table.add_column(name, justify="right")
    rows: dict[str, Callable[[Cost], str]] = {
        "parameters": lambda cost: f"{cost.parameters:,}",
        "parameters of the first stage": lambda cost: f"{cost.first_stage_parameters:,}" if cost.first_stage_parameters else "",
        "FLOPs of an image, forward": lambda cost: scaled(cost.flops),
        "training": lambda cost: f"{cost.training_images:,} images, {scaled(cost.training_flops)}FLOP, {_time(cost.training_days)}",
        **{_sampling_title(name): partial(_sampling, name=name) for cost in costs.values() for name in cost.samplings},
        "memory: training state": lambda cost: f"{scaled(cost.training_state)}B",
        "memory: activations": lambda cost: (
            f"{scaled(cost.activations)}B, with{'' if cost.gradient_checkpointing else 'out'} gradient checkpointing"
        ),
        "disk: a checkpoint": lambda cost: f"{scaled(cost.checkpoint)}B",
    }
    for title, text in rows.items():
        cells = [text(cost) for cost in columns.values()]
        if any(cells):
            table.add_row(title, *cells)
    return table


def _sampling_title(name: str) -> str:
    return "sampling" if name == DEFAULT_SAMPLING else f"sampling {name}"


def _sampling(cost: Cost, name: str) -> str:
    if name not in cost.samplings:
        return ""
    one = cost.samplings[name]
    return f"{one.images:,} images of {one.nfe} calls, {scaled(one.flops)}FLOP, {_time(one.flops / FLOPS_PER_SECOND / 86400)}"


def scaled(number: float) -> str:
    """Four digits and a decimal prefix, to which a unit can be put."""
    for power, prefix in ((18, "E"), (15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if number >= 10**power:
            return f"{number / 10**power:.4g} {prefix}"
    return f"{number:.4g} "


def _time(days: float) -> str:
    for unit, length in (("days", 1.0), ("hours", 1 / 24), ("minutes", 1 / 1440)):
        if days >= length:
            return f"{days / length:.3g} {unit}"
    return f"{days * 86400:.3g} seconds"


def summary_table(experiment: Experiment) -> Table:
    """Every measured value of every run, with its standard error and the value of real images."""
    runs = experiment.runs
    table = Table(title=experiment.name, caption="value ± standard error; held-out: the same value for real images")
    table.add_column("measured")
    for run in runs:
        table.add_column(run.label, justify="right")
    table.add_column("held-out", justify="right")
    found = [{(key, name): value for key, one in run.results.items() for name, value in one.values.items()} for run in runs]
    rows = dict.fromkeys(row for values in found for row in values)
    times = Counter(name for _, name in rows)
    for key, name in rows:
        values = [values.get((key, name)) for values in found]
        reference = next((value.reference for value in values if value and value.reference is not None), None)
        title = name if times[name] == 1 else f"{name} ({key})"
        table.add_row(title, *(_number(value.value, value.se) if value else "" for value in values), _number(reference, None))
    speeds = [record.facts["images_per_second"] if (record := run.train.folder.finished()) else None for run in runs]
    table.add_row("training images/s, median of log records", *(_number(speed, None) for speed in speeds), "")
    return table


def _number(value: float | None, se: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if se is None else f"{value:.4g} ± {se:.1g}"
