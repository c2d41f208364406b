"""Progress and summaries of several runs on the terminal."""

from __future__ import annotations

import time
from collections import Counter
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from etsdm.experiment import Experiment
from etsdm.runs.launch import Event
from etsdm.sampling.config import DEFAULT_SAMPLING

__all__ = ["ProgressDisplay", "console", "scaled", "stage_title", "summary_table"]

console = Console(markup=False, emoji=False)  # brackets and colons of paths and names stay as they are

TITLES = {"train": "training", "sample": "sampling"}
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


def stage_title(kind: str, name: str) -> str:
    """A stage as a noun. Args: kind: train or sample; name: of the samples."""
    return TITLES[kind] if name in ("", DEFAULT_SAMPLING) else f"{TITLES[kind]} {name}"


def scaled(number: float) -> str:
    """Four digits and a decimal prefix, to which a unit can be put."""
    for power, prefix in ((18, "E"), (15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if number >= 10**power:
            return f"{number / 10**power:.4g} {prefix}"
    return f"{number:.4g} "


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
