"""Time grids of samplers."""

from etsdm.grids.base import Grid
from etsdm.grids.explicit import Explicit
from etsdm.grids.noise import Karras, LogSNRGrid
from etsdm.grids.spaced import Linspace, QuadraticGrid, UniformGrid
from etsdm.grids.timesteps import Auto, Leading, Respaced, Trailing
from etsdm.grids.uniform_in_f import UniformInF

__all__ = [
    "Auto",
    "Explicit",
    "Grid",
    "Karras",
    "Leading",
    "Linspace",
    "LogSNRGrid",
    "QuadraticGrid",
    "Respaced",
    "Trailing",
    "UniformGrid",
    "UniformInF",
]
