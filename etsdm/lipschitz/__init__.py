"""Measuring how smooth a denoiser is in time, and how stable."""

from etsdm.lipschitz.curve import LipschitzCurve, lipschitz_curve
from etsdm.lipschitz.modes import MODES
from etsdm.lipschitz.points import timesteps
from etsdm.lipschitz.stability import StabilityCurve, stability_curve

__all__ = ["MODES", "LipschitzCurve", "StabilityCurve", "lipschitz_curve", "stability_curve", "timesteps"]
