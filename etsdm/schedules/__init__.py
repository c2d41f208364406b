"""Noise schedules: alpha and sigma as functions of time, in float64."""

from etsdm.schedules.base import Discrete, Schedule
from etsdm.schedules.cosine import Cosine
from etsdm.schedules.linear import Linear
from etsdm.schedules.quadratic import Quadratic

__all__ = ["Cosine", "Discrete", "Linear", "Quadratic", "Schedule"]
