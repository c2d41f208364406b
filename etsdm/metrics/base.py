"""What a metric is given, and what it gives back."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar, NamedTuple

from pydantic import Field
from torch import Tensor

from etsdm.data import Images
from etsdm.denoisers.denoiser import Denoiser
from etsdm.registry import Frozen, Part, metrics

__all__ = ["Curve", "Histogram", "Metric", "MetricResult", "Subject", "Value", "mean_value"]


class Subject(NamedTuple):
    """What is measured.

    Fields: denoiser, in eval mode; samples, drawn from it, which a metric of many takes a batch at a time; train and test, the
    data's two splits; seed, of the metric's own randomness.
    """

    denoiser: Denoiser
    samples: Images
    train: Images
    test: Images
    seed: int


class Value(Frozen):
    """One number with its uncertainty.

    Fields: value; se, its standard error over `units`; units, the independent pieces whose mean it is (one an image or a
    chunk), in an order that is the same for every arm, so that arms can be compared piece by piece; unit_name, what a piece
    is; reference, the same figure for held-out real images; better, `lower` or `higher` if either is; description, one line.
    """

    value: float
    se: float | None = None
    units: tuple[float, ...] = ()
    unit_name: str = "image"
    reference: float | None = None
    better: str | None = None
    description: str = ""


class Curve(Frozen):
    """A function of time. Fields: t, mean, se, its standard error, None where it is of one piece, and what the axes mean."""

    t: tuple[float, ...]
    mean: tuple[float, ...]
    se: tuple[float, ...] | None
    t_label: str = "timestep t"
    label: str
    log_scale: bool = False
    description: str = ""


class Histogram(Frozen):
    """Shares of named classes, beside those of held-out real images."""

    names: tuple[str, ...]
    shares: tuple[float, ...]
    reference: tuple[float, ...]
    label: str
    description: str = ""


class MetricResult(Frozen):
    """All that one metric found, by name."""

    values: dict[str, Value] = Field(default_factory=dict)
    curves: dict[str, Curve] = Field(default_factory=dict)
    histograms: dict[str, Histogram] = Field(default_factory=dict)


class Metric(Part, family=metrics):
    """A measurement of a denoiser or of its samples."""

    uses_samples: ClassVar[bool] = False
    uses_held_out: ClassVar[bool] = False

    @abstractmethod
    def compute(self, subject: Subject) -> MetricResult:
        """Measures. Everything random comes from named streams of `subject.seed`."""


def mean_value(units: Tensor, **fields: object) -> Value:
    """The mean of independent pieces with its standard error. Args: units: (N,); **fields: other fields of `Value`."""
    units = units.double()
    se = float(units.std()) / math.sqrt(len(units)) if len(units) > 1 else None
    return Value.model_validate({"value": float(units.mean()), "se": se, "units": units.tolist(), **fields})
