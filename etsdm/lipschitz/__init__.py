"""Measuring how smooth a denoiser is in time."""

from etsdm.lipschitz.curve import LipschitzCurve, lipschitz_curve

__all__ = ["LipschitzCurve", "lipschitz_curve"]
