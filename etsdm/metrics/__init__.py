"""Metrics: measurements of a denoiser and of its samples."""

from etsdm.metrics.base import Curve, EvaluationInputs, EvaluationPlan, Histogram, Metric, MetricResult, Value, mean_value
from etsdm.metrics.config import Evaluation
from etsdm.metrics.frechet import PixelFrechet, frechet_distance
from etsdm.metrics.lipschitz import Lipschitz
from etsdm.metrics.loss import LossPerTime
from etsdm.metrics.protocol import data_protocol, sampling_protocol, value_protocol
from etsdm.metrics.recognition import Recognition

__all__ = [
    "Curve",
    "Evaluation",
    "EvaluationInputs",
    "EvaluationPlan",
    "Histogram",
    "Lipschitz",
    "LossPerTime",
    "Metric",
    "MetricResult",
    "PixelFrechet",
    "Recognition",
    "Value",
    "data_protocol",
    "frechet_distance",
    "mean_value",
    "sampling_protocol",
    "value_protocol",
]
