"""Denoisers around a denoiser: guidance, fixed conditions, inpainting, a start without signal."""

from etsdm.denoisers.wrappers.base import DenoiserWrapper
from etsdm.denoisers.wrappers.conditions import FixedLabels, FixedLowRes
from etsdm.denoisers.wrappers.guidance import ClassifierFreeGuidance
from etsdm.denoisers.wrappers.inpainting import Inpainting
from etsdm.denoisers.wrappers.zero_snr_start import ZeroSNRStart

__all__ = ["ClassifierFreeGuidance", "DenoiserWrapper", "FixedLabels", "FixedLowRes", "Inpainting", "ZeroSNRStart"]
