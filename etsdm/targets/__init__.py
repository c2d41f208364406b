"""Prediction targets: parametrisations of the network's output, and their inverse to x0 and eps."""

from etsdm.targets.base import Coefficients, Target
from etsdm.targets.edm import EDM, EDMV
from etsdm.targets.eps import Eps
from etsdm.targets.flow import Flow
from etsdm.targets.noise import NoiseTarget
from etsdm.targets.score import Score
from etsdm.targets.v import V
from etsdm.targets.x0 import X0

__all__ = ["EDM", "EDMV", "X0", "Coefficients", "Eps", "Flow", "NoiseTarget", "Score", "Target", "V"]
