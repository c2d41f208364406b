"""Protocol of a value: everything it depends on except the weights, so that values of one protocol may be compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from etsdm.checkpoints.format import Weights
from etsdm.data import Dataset
from etsdm.denoisers.denoiser import DenoiserSpec
from etsdm.metrics.base import Metric
from etsdm.sampling.config import Sampling

__all__ = ["data_protocol", "sampling_protocol", "value_protocol"]


def value_protocol(
    metric: Metric,
    *,
    weights: Weights,
    denoiser: Mapping[str, Any],
    seed: int,
    data: Mapping[str, Any],
    samples: Mapping[str, Any] | None,
    versions: Mapping[str, str],
) -> dict[str, Any]:
    """The protocol of one metric's values, as JSON values.

    Args:
        metric: with its settings; its name does not count.
        weights: of the denoiser that is measured or sampled.
        denoiser: the parts of the denoiser and the times by which the value is measured, `Metric.denoiser_protocol` and the edges.
        seed: of the metric's randomness.
        data: result of `data_protocol`.
        samples: result of `sampling_protocol`, None for a metric that measures no samples.
        versions: of packages and machine.
    """
    return {
        "metric": metric.settings,
        "seed": seed,
        "data": dict(data),
        "samples": None if samples is None else dict(samples),
        "weights": weights,
        "denoiser": dict(denoiser),
        "versions": dict(versions),
    }


def data_protocol(data: Dataset) -> dict[str, Any]:
    """Fields of a data set and sha256 of its two splits; reads all images of both."""
    return {**data.identity(), "train": data.open("train").digest(), "test": data.open("test").digest()}


def sampling_protocol(sampling: Sampling, model: DenoiserSpec) -> dict[str, Any]:
    """All fields of a sampling section but the batch size, and the network calls of a sample."""
    fields = sampling.model_dump(mode="json", exclude={"batch_size", "weights"})
    return {**fields, "nfe": sampling.sampler.plan(model).nfe}
