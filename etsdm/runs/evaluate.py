"""The stage that measures the metrics of a run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from etsdm.checkpoints.format import Weights
from etsdm.data import Files
from etsdm.denoisers.denoiser import Denoiser
from etsdm.metrics import EvaluationInputs, Metric, MetricResult, data_protocol, sampling_protocol, value_protocol
from etsdm.recipe import Recipe
from etsdm.runs.changes import reasons
from etsdm.runs.environment import environment
from etsdm.runs.records import ValueRecord
from etsdm.runs.sample import Sample
from etsdm.runs.stages import Progress, Stage, StagePlan
from etsdm.sampling.config import DEFAULT_SAMPLING
from etsdm.storage.files import digest_of
from etsdm.storage.records import read_record, write_record

__all__ = ["Evaluate", "Measurement"]


@dataclass(frozen=True)
class Measurement:
    """One metric of a denoiser or of one set of samples.

    Attributes:
        name: of the metric.
        metric: with its settings.
        sample: stage of the samples that are measured; the first for a metric that measures none.
        digest: of training or samples, metric and seed.
        depends_on: all that the digest is made of.
        file: of the result.
    """

    name: str
    metric: Metric
    sample: Sample
    digest: str
    depends_on: Mapping[str, Any]
    file: Path

    @property
    def sampling(self) -> str | None:
        """Name of the measured samples, None for a metric that measures none."""
        return self.sample.name if self.metric.uses_samples else None

    def is_done(self) -> bool:
        """Whether the result is on disk."""
        return self.result() is not None

    def plan(self, earlier: ValueRecord | None, *, before: str) -> StagePlan:
        """Remaining measurements.

        Args:
            earlier: an earlier result with other settings of the metric.
            before: `new weights` or `new samples` where these are not there yet.
        """
        planned = StagePlan(Evaluate.kind, self.key, 0, 1, Evaluate.unit, finished=False)
        if self.is_done():
            return planned._replace(done=1, finished=True)
        record = read_record(self.file, ValueRecord) or earlier
        if record is None:
            return planned
        return planned._replace(again=tuple(reasons(record.depends_on, self.depends_on, own="evaluation", before=before)))

    @property
    def key(self) -> str:
        """`metric`, or `sampling/metric` for samples with a name."""
        return self.name if self.sampling in (None, DEFAULT_SAMPLING) else f"{self.sampling}/{self.name}"

    def result(self) -> MetricResult | None:
        """The result, None before it was measured."""
        record = read_record(self.file, ValueRecord)
        return record.result if record is not None and record.digest == self.digest else None


@dataclass(frozen=True)
class Evaluate(Stage):
    """Measures every metric of a run that has no result yet.

    Attributes:
        recipe: of the arm.
        measurements: all of the run.
        inputs: files that the training reads, for the protocols.
        load_denoiser: reads the trained denoiser with the averaged or the current weights.
    """

    kind: ClassVar[str] = "evaluate"
    unit: ClassVar[str] = "metrics"

    recipe: Recipe
    measurements: tuple[Measurement, ...]
    inputs: Mapping[str, Files]
    load_denoiser: Callable[[Weights], Denoiser]

    @property
    def digest(self) -> str:  # type: ignore[override]
        """Digest of the results' digests."""
        return digest_of([one.digest for one in self.measurements])

    def is_done(self) -> bool:
        return all(one.is_done() for one in self.measurements)

    def run(self) -> Iterator[Progress]:
        todo, total = [one for one in self.measurements if not one.is_done()], len(self.measurements)
        data, seed, weights = self.recipe.data.pixels or self.recipe.data, self.recipe.evaluation.seed, self.recipe.evaluation.weights
        denoiser, train, test, read = self.load_denoiser(weights), data.open("train"), data.open("test"), data_protocol(data)
        yield self.progress(total - len(todo), total)
        for left, one in zip(range(len(todo) - 1, -1, -1), todo, strict=True):
            clock = time.perf_counter()
            result = one.metric.compute(EvaluationInputs(denoiser, one.sample.images, train, test, seed, self.recipe.evaluation.edges))
            samples = sampling_protocol(one.sample.sampling, self.recipe.model) if one.metric.uses_samples else None
            of = one.sample.sampling.weights if one.metric.uses_samples else weights
            parts = {} if one.metric.uses_samples else self._denoiser_protocol(one.metric)
            protocol = value_protocol(one.metric, weights=of, denoiser=parts, seed=seed, data=read, samples=samples, versions=environment())
            seconds = round(time.perf_counter() - clock, 2)
            record = ValueRecord(
                digest=one.digest,
                seconds=seconds,
                protocol=protocol,
                protocol_digest=digest_of(protocol),
                result=result,
                depends_on=dict(one.depends_on),
            )
            write_record(one.file, record)
            yield self.progress(total - left, total)

    def _denoiser_protocol(self, metric: Metric) -> dict[str, Any]:
        weights = self.inputs.get("first_stage_weights")
        found = {**metric.denoiser_protocol(self.recipe.model), "edges": self.recipe.evaluation.edges}
        return found if weights is None else {**found, "first_stage_weights": weights.content}
