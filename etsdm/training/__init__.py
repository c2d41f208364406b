"""Training: configuration, loop, optimizers, learning-rate schedules, moving averages, and the state on disk."""

from etsdm.training.config import Training
from etsdm.training.data_scale import DataScale, Scale, measure_data
from etsdm.training.data_statistics import DataStatistics, measure_statistics
from etsdm.training.ema import EMA, PerStepEMA
from etsdm.training.lr_schedules import ConstantLR, CosineLR, LRSchedule
from etsdm.training.optimizers import Adam, AdamW, Optimizer
from etsdm.training.state import read_state, write_state
from etsdm.training.trainer import Progress, Trainer

__all__ = [
    "EMA",
    "Adam",
    "AdamW",
    "ConstantLR",
    "CosineLR",
    "DataScale",
    "DataStatistics",
    "LRSchedule",
    "Optimizer",
    "PerStepEMA",
    "Progress",
    "Scale",
    "Trainer",
    "Training",
    "measure_data",
    "measure_statistics",
    "read_state",
    "write_state",
]
