"""Losses, their weightings, and the distributions of training times."""

from etsdm.losses.mse import MSE, Loss
from etsdm.losses.times import TimeSampler, Uniform
from etsdm.losses.weightings import Constant, Weighting

__all__ = ["MSE", "Constant", "Loss", "TimeSampler", "Uniform", "Weighting"]
