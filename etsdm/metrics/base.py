"""Base class of metrics, their inputs and their results."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar, NamedTuple

from pydantic import Field
from torch import Tensor

from etsdm.analysis import measured_edges
from etsdm.data import Dataset, Images
from etsdm.denoisers.denoiser import Denoiser, DenoiserSpec
from etsdm.registry import Frozen, Part, metrics
from etsdm.storage.files import digest_of

__all__ = ["Curve", "EvaluationInputs", "EvaluationPlan", "Histogram", "Metric", "MetricResult", "Value", "mean_value"]

FIELDS_DIGITS = 8  # hex digits in the file name of a metric with fields of its own


class EvaluationInputs(NamedTuple):
    """Inputs of a metric.

    Fields: denoiser, in eval mode; samples drawn from it, read a batch at a time; train and test, the two splits of the data; seed of
    the metric's own randomness; edges of the sub-intervals of time that are resolved, the same in all arms (`Evaluation.edges`), those of
    the denoiser by default.
    """

    denoiser: Denoiser
    samples: Images
    train: Images
    test: Images
    seed: int
    edges: tuple[float, ...] | None = None

    @property
    def time_edges(self) -> tuple[float, ...]:
        """`edges`, or those of the denoiser's condition map."""
        return self.edges or measured_edges([self.denoiser.condition_map], self.denoiser.schedule)


class EvaluationPlan(NamedTuple):
    """Inputs of a metric as a recipe describes them, before anything is trained.

    Fields: spec of the denoiser; data; n, number of samples; edges as in `EvaluationInputs`, None where other arms may still add some.
    """

    spec: DenoiserSpec
    data: Dataset
    n: int
    edges: tuple[float, ...] | None = None


class Value(Frozen):
    """One number with its uncertainty.

    Fields: value; se, its standard error over `per_unit`; per_unit, values of the independent units whose mean it is (images or chunks),
    in the same order in every arm, so that arms are compared unit by unit; unit_name; reference, the value of held-out real images;
    higher_is_better, None where neither is; description, one line.
    """

    value: float
    se: float | None = None
    per_unit: tuple[float, ...] = ()
    unit_name: str = "image"
    reference: float | None = None
    higher_is_better: bool | None = None
    description: str = ""


class Curve(Frozen):
    """A function of time.

    Fields: t; mean; se, its standard error, None for one unit; labels of the axes; log_scale, whether the values, and log_time, whether the
    times have a logarithmic axis.
    """

    t: tuple[float, ...]
    mean: tuple[float, ...]
    se: tuple[float, ...] | None
    t_label: str = "timestep t"
    label: str
    log_scale: bool = False
    log_time: bool = False
    description: str = ""


class Histogram(Frozen):
    """Shares of named classes, beside those of held-out real images."""

    names: tuple[str, ...]
    shares: tuple[float, ...]
    reference: tuple[float, ...]
    label: str
    description: str = ""


class MetricResult(Frozen):
    """Values, curves and histograms of one metric, by name."""

    values: dict[str, Value] = Field(default_factory=dict)
    curves: dict[str, Curve] = Field(default_factory=dict)
    histograms: dict[str, Histogram] = Field(default_factory=dict)


class Metric(Part, family=metrics):
    """A measurement of a denoiser or of its samples.

    Attributes:
        uses_samples: whether it measures samples, and so each set of samples by itself.
        uses_held_out: whether it needs held-out images.
        name: of its results, for a metric that stands in a recipe several times; the type's name by default.
    """

    uses_samples: ClassVar[bool] = False
    uses_held_out: ClassVar[bool] = False

    name: str | None = Field(None, pattern=r"^[a-z0-9]+([-_][a-z0-9]+)*$")

    def denoiser_protocol(self, spec: DenoiserSpec) -> dict[str, object]:
        """Parts of the denoiser that a value depends on beside its quality, as JSON values: those that give its output its meaning.

        Values of two denoisers are compared only where these are the same. A metric of samples depends on none: images are images.
        """
        if self.uses_samples:
            return {}
        parts = {"schedule": spec.schedule, "target": spec.target, "first_stage": spec.first_stage}
        return {name: None if part is None else part.model_dump(mode="json") for name, part in parts.items()}

    @property
    def settings(self) -> dict[str, object]:
        """All fields that a result depends on, as JSON values: those of the dump but the name."""
        return {field: value for field, value in self.model_dump(mode="json").items() if field != "name"}

    @property
    def file_stem(self) -> str:
        """Name of its result files, whatever other metrics there are: `name`, or the type's, with a digest of changed settings."""
        if self.name is not None:
            return self.name
        defaults = {name: field.get_default(call_default_factory=True) for name, field in type(self).model_fields.items()}
        changed = any(getattr(self, name) != default for name, default in defaults.items() if name != "name")
        return f"{self.type_name}-{digest_of(self.settings)[:FIELDS_DIGITS]}" if changed else self.type_name

    def check(self, plan: EvaluationPlan) -> None:
        """Raises PartError, on a field of the metric, if it cannot measure such a denoiser or such samples."""

    def check_images(self, train: Images, test: Images) -> None:
        """Raises DataError if the images do not suffice, by their numbers and labels; before training, and before measuring."""

    @abstractmethod
    def compute(self, inputs: EvaluationInputs) -> MetricResult:
        """Measures. All randomness comes from named streams of `inputs.seed`."""


def mean_value(per_unit: Tensor, **fields: object) -> Value:
    """The mean over independent units with its standard error. Args: per_unit: (N,); **fields: other fields of `Value`."""
    per_unit = per_unit.double()
    se = float(per_unit.std()) / math.sqrt(len(per_unit)) if len(per_unit) > 1 else None
    return Value.model_validate({"value": float(per_unit.mean()), "se": se, "per_unit": per_unit.tolist(), **fields})
