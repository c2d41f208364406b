"""Noise schedules: alpha(t) and sigma(t), in float64."""

from etsdm.schedules.base import Continuous, Schedule, Slope
from etsdm.schedules.cosine import Cosine, CosineContinuous
from etsdm.schedules.cosine_shift import CosineShift, CosineShiftContinuous, CosineShiftSimpleContinuous
from etsdm.schedules.discrete import Discrete, FromBetas
from etsdm.schedules.edm import EDM, VPEDM
from etsdm.schedules.flow import Flow
from etsdm.schedules.linear import Linear, LinearContinuous
from etsdm.schedules.modified import ModifiedQuadratic
from etsdm.schedules.quadratic import Quadratic, QuadraticContinuous
from etsdm.schedules.sigmoid import Sigmoid
from etsdm.schedules.ve import VE
from etsdm.schedules.zero_terminal import ZeroTerminal, ZeroTerminalContinuous

__all__ = [
    "EDM",
    "VE",
    "VPEDM",
    "Continuous",
    "Cosine",
    "CosineContinuous",
    "CosineShift",
    "CosineShiftContinuous",
    "CosineShiftSimpleContinuous",
    "Discrete",
    "Flow",
    "FromBetas",
    "Linear",
    "LinearContinuous",
    "ModifiedQuadratic",
    "Quadratic",
    "QuadraticContinuous",
    "Schedule",
    "Sigmoid",
    "Slope",
    "ZeroTerminal",
    "ZeroTerminalContinuous",
]
