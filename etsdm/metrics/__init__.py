"""Metrics: what is measured of a denoiser and of its samples."""

from etsdm.metrics.base import Curve, Histogram, Metric, MetricResult, Subject, Value, mean_value
from etsdm.metrics.config import Evaluation
from etsdm.metrics.frechet import PixelFrechet, frechet_distance
from etsdm.metrics.lipschitz import Lipschitz
from etsdm.metrics.loss import LossPerTime
from etsdm.metrics.recognition import Recognition

__all__ = [
    "Curve",
    "Evaluation",
    "Histogram",
    "Lipschitz",
    "LossPerTime",
    "Metric",
    "MetricResult",
    "PixelFrechet",
    "Recognition",
    "Subject",
    "Value",
    "frechet_distance",
    "mean_value",
]
