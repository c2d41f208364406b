"""Losses, loss weightings, and distributions of training times."""

from etsdm.losses.hybrid import Hybrid
from etsdm.losses.mse import MSE, Loss
from etsdm.losses.regularised import LipschitzRegularized
from etsdm.losses.times import LogNormal, SoftTruncation, TimeSampler, Uniform, UniformIn
from etsdm.losses.weightings import P2, Constant, MinSNR, Weighting

__all__ = [
    "MSE",
    "P2",
    "Constant",
    "Hybrid",
    "LipschitzRegularized",
    "LogNormal",
    "Loss",
    "MinSNR",
    "SoftTruncation",
    "TimeSampler",
    "Uniform",
    "UniformIn",
    "Weighting",
]
