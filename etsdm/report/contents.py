"""What a report shows, gathered from an experiment's folder: every run's records, and the comparison of the arms."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from scipy.stats import t as student_t

from etsdm.errors import DataError
from etsdm.metrics import Curve, Histogram, MetricResult, Value
from etsdm.recipe import read
from etsdm.runs.folder import ExperimentFolder, RunFolder
from etsdm.storage.files import read_record

__all__ = ["Comparison", "Contents", "Interval", "RunRecord", "gather"]


class RunRecord(NamedTuple):
    """One finished run. Fields as in its folder; outcomes and protocols by metric."""

    arm: str
    seed: int
    folder: RunFolder
    recipe: dict[str, Any]
    outcomes: dict[str, MetricResult]
    protocols: dict[str, str]
    log: list[dict[str, Any]]


class Interval(NamedTuple):
    """An estimate. Fields: value; se, its standard error, None where there is one piece only; pieces, over how many."""

    value: float
    se: float | None
    pieces: int

    @property
    def half_width(self) -> float:
        """Half of the 95 % interval, by Student's t."""
        return float(student_t.ppf(0.975, self.pieces - 1)) * (self.se or 0.0)

    def __str__(self) -> str:
        return f"{self.value:.4g}" if self.se is None else f"{self.value:.4g} ± {self.se:.2g}"


class Comparison(NamedTuple):
    """One figure over all arms.

    Fields: name; description; by_arm, the estimate of each arm; reference, of held-out real images; differences, each later
    arm minus the first, with a 95 % interval, or None where the two may not be compared; pieces, what the interval is over.
    """

    name: str
    description: str
    by_arm: dict[str, Interval]
    reference: float | None
    differences: dict[str, Interval | None]
    pieces: str

    def verdict(self, arm: str) -> str:
        """What the interval of an arm's difference says, in words."""
        difference = self.differences.get(arm)
        if difference is None:
            return "not compared: measured by different protocols"
        if difference.se is None:
            return f"{difference.value:+.3g}, no interval from one piece"
        half = difference.half_width
        base = next(iter(self.by_arm.values())).value
        share = f" ({difference.value / base:+.1%})" if base else ""
        low, high = difference.value - half, difference.value + half
        seen = "differs" if low > 0 or high < 0 else "no difference seen"
        return f"{difference.value:+.3g}{share}, 95 % [{low:+.3g}, {high:+.3g}]: {seen}"


class Contents(NamedTuple):
    """All that the page shows."""

    name: str
    description: str
    runs: dict[str, dict[int, RunRecord]]
    comparisons: list[Comparison]

    @property
    def first_seed(self) -> int:
        """The seed whose samples and logs are shown."""
        first: int = next(iter(next(iter(self.runs.values()))))
        return first

    def shown(self) -> dict[str, RunRecord]:
        """The first seed's run of every arm."""
        return {arm: runs[self.first_seed] for arm, runs in self.runs.items()}

    def curves(self, name: str) -> dict[str, list[Curve]]:
        """A curve of every arm, one a seed."""
        return {
            arm: [c for run in runs.values() for o in run.outcomes.values() if (c := o.curves.get(name))] for arm, runs in self.runs.items()
        }

    def histograms(self, name: str) -> dict[str, Histogram]:
        """A histogram of every arm's first seed."""
        return {arm: h for arm, run in self.shown().items() for o in run.outcomes.values() if (h := o.histograms.get(name))}


def gather(folder: ExperimentFolder) -> Contents:
    """Reads an experiment's folder.

    Raises:
        DataError: no run of it is finished.
    """
    record = read_record(folder.record_file)
    runs: dict[str, dict[int, RunRecord]] = {}
    for arm, seeds in folder.runs().items():
        finished = {seed: _run(arm, seed, run) for seed, run in seeds.items() if run.evaluation_file.exists()}
        if finished:
            runs[arm] = finished
    if not runs:
        raise DataError(f"{folder.path}: holds no finished run; run the recipe first, or give an experiment's folder such as runs/digits")
    common = set.intersection(*(set(seeds) for seeds in runs.values()))
    if not common:
        raise DataError(f"{folder.path}: the finished runs of its arms have no seed in common; finish them with etsdm run")
    runs = {arm: {seed: run for seed, run in seeds.items() if seed in common} for arm, seeds in runs.items()}
    return Contents(record["name"], record.get("description", ""), runs, _comparisons(runs))


def _run(arm: str, seed: int, folder: RunFolder) -> RunRecord:
    results = read_record(folder.evaluation_file)["results"]
    outcomes = {item["protocol"]["metric"]["type"]: MetricResult.model_validate(item["outcome"]) for item in results}
    protocols = {item["protocol"]["metric"]["type"]: item["protocol_digest"] for item in results}
    return RunRecord(arm, seed, folder, read(folder.recipe_file).data, outcomes, protocols, folder.training_log())


def _comparisons(runs: dict[str, dict[int, RunRecord]]) -> list[Comparison]:
    first_arm = next(iter(runs))
    first = next(iter(runs[first_arm].values()))
    found = []
    for metric, outcome in first.outcomes.items():
        for name, value in outcome.values.items():
            values = {
                arm: [run.outcomes[metric].values[name] for run in seeds.values() if _has(run, metric, name)] for arm, seeds in runs.items()
            }
            values = {arm: vs for arm, vs in values.items() if len(vs) == len(runs[first_arm])}
            same = {arm: all(run.protocols.get(metric) == first.protocols[metric] for run in runs[arm].values()) for arm in values}
            several = len(values[first_arm]) > 1
            found.append(
                Comparison(
                    name,
                    f"{value.description}; {value.better} is better" if value.better else value.description,
                    {arm: _estimate(vs) for arm, vs in values.items()},
                    value.reference,
                    {arm: _difference(values[first_arm], vs) if same[arm] else None for arm, vs in values.items() if arm != first_arm},
                    f"{len(values[first_arm])} seeds" if several else f"{len(value.units)} × {value.unit_name}, paired",
                )
            )
    return found


def _has(run: RunRecord, metric: str, name: str) -> bool:
    return metric in run.outcomes and name in run.outcomes[metric].values


def _mean(pieces: list[float]) -> Interval:
    n = len(pieces)
    mean = math.fsum(pieces) / n
    if n < 2:
        return Interval(mean, None, n)
    return Interval(mean, math.sqrt(math.fsum((piece - mean) ** 2 for piece in pieces) / (n - 1) / n), n)


def _estimate(values: list[Value]) -> Interval:
    """Over seeds where there are several, else over the pieces of the one."""
    return Interval(values[0].value, values[0].se, len(values[0].units)) if len(values) == 1 else _mean([value.value for value in values])


def _difference(base: list[Value], other: list[Value]) -> Interval:
    """Of seeds or of pieces that belong together, so that what both share cancels."""
    if len(base) > 1:
        return _mean([b.value - a.value for a, b in zip(base, other, strict=True)])
    if len(base[0].units) == len(other[0].units) > 1:
        return _mean([b - a for a, b in zip(base[0].units, other[0].units, strict=True)])
    return Interval(other[0].value - base[0].value, None, 1)
