"""What the terminal shows: progress of several runs, plans and summaries."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from etsdm.experiment import Experiment
from etsdm.runs.cost import RATE, Cost
from etsdm.runs.launch import Event
from etsdm.runs.run import STAGES

__all__ = ["ProgressDisplay", "console", "cost_table", "plan_table", "scaled", "summary_table"]

console = Console()

PLAIN_EVERY = 10.0  # seconds between lines of one run where there is no terminal


class ProgressDisplay:
    """A bar for each run and stage on a terminal; a line now and then elsewhere."""

    def __init__(self) -> None:
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks: dict[tuple[str, str], TaskID] = {}
        self._began: dict[tuple[str, str], tuple[float, int]] = {}
        self._said: dict[tuple[str, str], float] = {}

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
        key, now = (event.label, progress.stage), time.monotonic()
        since, at = self._began.setdefault(key, (now, progress.done))
        rate = (progress.done - at) / (now - since) if now > since else 0.0
        speed = f"{rate:,.0f} {progress.unit}/s" if rate >= 1 else ""
        title = f"{event.label}: {progress.stage}"
        if console.is_terminal:
            if key not in self._tasks:
                self._tasks[key] = self._bars.add_task(title, total=progress.total, unit=progress.unit, rate="")
            self._bars.update(self._tasks[key], completed=progress.done, rate=speed)
        elif progress.done == progress.total or now - self._said.get(key, -PLAIN_EVERY) >= PLAIN_EVERY:
            self._said[key] = now
            console.print(f"{title} {progress.done}/{progress.total} {progress.unit} {speed}".rstrip(), highlight=False)


def plan_table(experiment: Experiment, stages: tuple[str, ...]) -> Table:
    """Which stages of which runs are done, and which would be."""
    table = Table(title=f"{experiment.name} in {experiment.folder.path}")
    for heading in ("run", *stages):
        table.add_column(heading)
    for run in experiment.runs:
        table.add_row(run.label, *("done" if run.is_done(stage) else "to do" for stage in STAGES if stage in stages))
    return table


def cost_table(costs: Mapping[str, Cost], seeds: int) -> Table:
    """What a run of each arm costs; one column where all arms cost the same. Args: costs by arm; seeds, runs of each arm."""
    columns = costs if len(set(map(repr, costs.values()))) > 1 else {"a run": next(iter(costs.values()))}
    runs = len(costs) * seeds
    days = seeds * sum(cost.training_days + cost.sampling_days for cost in costs.values())
    table = Table(
        title=f"cost of {runs} run{'' if runs == 1 else 's'}: {_time(days)} on one device that sustains {scaled(RATE)}FLOP/s",
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
        "sampling": lambda cost: (
            f"{cost.sampling_images:,} images of {cost.nfe} calls, {scaled(cost.sampling_flops)}FLOP, {_time(cost.sampling_days)}"
        ),
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
    """Every measured value of every run, with its standard error and the figure of real images."""
    runs = experiment.runs
    table = Table(title=experiment.name, caption="value ± standard error; held-out: the same figure for real images")
    table.add_column("measured")
    for run in runs:
        table.add_column(run.label, justify="right")
    table.add_column("held-out", justify="right")
    found = [{name: value for outcome in run.outcomes.values() for name, value in outcome.values.items()} for run in runs]
    for name in found[0]:
        values = [values.get(name) for values in found]
        reference = next((value.reference for value in values if value and value.reference is not None), None)
        table.add_row(name, *(_number(value.value, value.se) if value else "" for value in values), _number(reference, None))
    speeds = [record.facts["images_per_second"] if (record := run.folder.stage("train")) else None for run in runs]
    table.add_row("training images/s", *(_number(speed, None) for speed in speeds), "")
    return table


def _number(value: float | None, se: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if se is None else f"{value:.4g} ± {se:.1g}"
