"""Contents of a report, gathered from an experiment's folder: the records of every run, and the comparison of the arms."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from typing import Any, NamedTuple

from scipy.stats import t as student_t

from etsdm.errors import DataError
from etsdm.metrics import Curve, Histogram, MetricResult, Value
from etsdm.recipe import read
from etsdm.runs.folder import ExperimentFolder, RunFolder, TrainingFolder
from etsdm.runs.records import Manifest
from etsdm.sampling.config import DEFAULT_SAMPLING

__all__ = ["Comparison", "Contents", "Interval", "MetricKey", "RunRecord", "gather"]


class MetricKey(NamedTuple):
    """A metric of a run. Fields: metric, its name; sampling, name of the measured samples, None for a metric that measures none."""

    metric: str
    sampling: str | None

    def __str__(self) -> str:
        return self.metric if self.sampling in (None, DEFAULT_SAMPLING) else f"{self.metric}, {self.sampling}"


class RunRecord(NamedTuple):
    """One finished run.

    Fields as in its folder; training, the folder of its training; results, protocols (digests) and seconds by metric; log of the
    training.
    """

    arm: str
    seed: int
    folder: RunFolder
    training: TrainingFolder
    manifest: Manifest
    recipe: dict[str, Any]
    results: dict[MetricKey, MetricResult]
    protocols: dict[MetricKey, str]
    seconds: dict[MetricKey, float]
    log: list[dict[str, Any]]

    @property
    def samplings(self) -> list[str]:
        """Names of its samples."""
        return list(self.manifest.samples)


class Interval(NamedTuple):
    """An estimate. Fields: value; se, its standard error, None for one unit; units, their number."""

    value: float
    se: float | None
    units: int

    @property
    def half_width(self) -> float:
        """Half of the 95 % interval, by Student's t."""
        return float(student_t.ppf(0.975, self.units - 1)) * (self.se or 0.0)

    def __str__(self) -> str:
        return f"{self.value:.4g}" if self.se is None else f"{self.value:.4g} ± {self.se:.2g}"


class Comparison(NamedTuple):
    """One value over all arms.

    Fields: key, its metric; title, its name, with the metric where several give that name; description; by_arm, the estimate of each arm;
    reference, of held-out real images; differences, each later arm minus the first, with a 95 % interval, or None where the protocols
    differ; units of the interval, in words.
    """

    key: MetricKey
    title: str
    description: str
    by_arm: dict[str, Interval]
    reference: float | None
    differences: dict[str, Interval | None]
    units: str

    def verdict(self, arm: str) -> str:
        """The interval of an arm's difference, and whether it holds 0, in words."""
        difference = self.differences.get(arm)
        if difference is None:
            return "not compared: measured by different protocols"
        if difference.se is None:
            return f"{difference.value:+.3g}, no interval from one unit"
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
        """The seed whose samples and logs the report has."""
        first: int = next(iter(next(iter(self.runs.values()))))
        return first

    def first_runs(self) -> dict[str, RunRecord]:
        """The first seed's run of every arm."""
        return {arm: runs[self.first_seed] for arm, runs in self.runs.items()}

    def samplings(self) -> list[str]:
        """Names of the samples of all arms."""
        return list(dict.fromkeys(name for run in self.first_runs().values() for name in run.samplings))

    def keys(self) -> list[MetricKey]:
        """Metrics of all arms."""
        return list(dict.fromkeys(key for run in self.first_runs().values() for key in run.results))

    def curves(self, name: str) -> dict[MetricKey, dict[str, list[Curve]]]:
        """Curves of a name by metric and arm, one a seed."""
        found = {}
        for key in self.keys():
            of_seeds = {arm: [run.results[key] for run in runs.values() if key in run.results] for arm, runs in self.runs.items()}
            of_arms = {arm: [curve for one in results if (curve := one.curves.get(name))] for arm, results in of_seeds.items()}
            if of_arms := {arm: curves for arm, curves in of_arms.items() if curves}:
                found[key] = of_arms
        return found

    def histograms(self, name: str) -> dict[MetricKey, dict[str, Histogram]]:
        """Histograms of a name by metric and arm, of the first seed."""
        found = {}
        for key in self.keys():
            results = {arm: run.results[key] for arm, run in self.first_runs().items() if key in run.results}
            if of_arms := {arm: histogram for arm, one in results.items() if (histogram := one.histograms.get(name))}:
                found[key] = of_arms
        return found


def gather(folder: ExperimentFolder) -> Contents:
    """Reads an experiment's folder.

    Runs that are not finished are left out, with a warning.

    Raises:
        DataError: no run of it is finished.
        IntegrityError: a record is damaged.
    """
    record = folder.record()
    runs: dict[str, dict[int, RunRecord]] = {}
    for arm, seeds in folder.runs().items():
        finished = {seed: found for seed, run in seeds.items() if (found := _run(arm, seed, run))}
        for seed in seeds.keys() - finished:
            if (path := seeds[seed].path).is_dir():
                warnings.warn(f"{path}: is not finished, and left out of the report; run the recipe to finish it", stacklevel=2)
        if finished:
            runs[arm] = finished
    if record is None or not runs:
        raise DataError(f"{folder.path}: holds no finished run; run the recipe first, or give an experiment's folder such as runs/digits")
    common = set.intersection(*(set(seeds) for seeds in runs.values()))
    if not common:
        raise DataError(f"{folder.path}: the finished runs of its arms have no seed in common; finish them with etsdm run")
    runs = {arm: {seed: run for seed, run in seeds.items() if seed in common} for arm, seeds in runs.items()}
    return Contents(record.name, record.description, runs, _comparisons(runs))


def _run(arm: str, seed: int, folder: RunFolder) -> RunRecord | None:
    """The record of a run, None unless all its samples and values are there."""
    manifest, training = folder.manifest(), folder.training()
    if manifest is None or training is None:
        return None
    trained = training.finished()
    found = {MetricKey(entry.metric, entry.sampling): (entry, folder.value(entry.file)) for entry in manifest.values}
    values = {key: record for key, (entry, record) in found.items() if record is not None and record.digest == entry.digest}
    drawn = {name: folder.samples(name).finished() for name in manifest.samples}
    if trained is None or trained.digest != manifest.train or len(values) < len(found):
        return None
    if any(record is None or record.digest != manifest.samples[name] for name, record in drawn.items()):
        return None
    folder.recipe()
    return RunRecord(
        arm,
        seed,
        folder,
        training,
        manifest,
        read(folder.recipe_file).data,
        {key: record.result for key, record in values.items()},
        {key: record.protocol_digest for key, record in values.items()},
        {key: record.seconds for key, record in values.items()},
        trained.log,
    )


def _comparisons(runs: dict[str, dict[int, RunRecord]]) -> list[Comparison]:
    every = [run for seeds in runs.values() for run in seeds.values()]
    names = dict.fromkeys((key, name) for run in every for key, result in run.results.items() for name in result.values)
    times = Counter(name for _, name in names)
    return [_comparison(runs, key, name, name if times[name] == 1 else f"{name} ({key})") for key, name in names]


def _comparison(runs: dict[str, dict[int, RunRecord]], key: MetricKey, name: str, title: str) -> Comparison:
    first_arm, seeds = next(iter(runs)), len(next(iter(runs.values())))
    found = {arm: [run.results[key].values[name] for run in of_arm.values() if _has(run, key, name)] for arm, of_arm in runs.items()}
    values = {arm: of_arm for arm, of_arm in found.items() if len(of_arm) == seeds}
    base = values.get(first_arm)
    protocols = {arm: {run.protocols.get(key) for run in of_arm.values()} for arm, of_arm in runs.items()}
    value = next(of_arm[0] for of_arm in found.values() if of_arm)
    better = {True: "; higher is better", False: "; lower is better", None: ""}[value.higher_is_better]
    differences = {}
    for arm, of_arm in values.items():
        if base is not None and arm != first_arm:
            differences[arm] = _difference(base, of_arm) if len(protocols[arm] | protocols[first_arm]) == 1 else None
    units = f"{seeds} seeds" if seeds > 1 else f"{len(value.per_unit)} × {value.unit_name}, paired"
    by_arm = {arm: _estimate(of_arm) for arm, of_arm in values.items()}
    return Comparison(key, title, value.description + better, by_arm, value.reference, differences, units)


def _has(run: RunRecord, key: MetricKey, name: str) -> bool:
    return key in run.results and name in run.results[key].values


def _mean(units: list[float]) -> Interval:
    n = len(units)
    mean = math.fsum(units) / n
    if n < 2:
        return Interval(mean, None, n)
    return Interval(mean, math.sqrt(math.fsum((unit - mean) ** 2 for unit in units) / (n - 1) / n), n)


def _estimate(values: list[Value]) -> Interval:
    """Over seeds where there are several, else over the units of the one."""
    return (
        Interval(values[0].value, values[0].se, len(values[0].per_unit)) if len(values) == 1 else _mean([value.value for value in values])
    )


def _difference(base: list[Value], other: list[Value]) -> Interval:
    """Over paired seeds or units, so that what both arms share cancels."""
    if len(base) > 1:
        return _mean([b.value - a.value for a, b in zip(base, other, strict=True)])
    if len(base[0].per_unit) == len(other[0].per_unit) > 1:
        return _mean([b - a for a, b in zip(base[0].per_unit, other[0].per_unit, strict=True)])
    return Interval(other[0].value - base[0].value, None, 1)
