"""Denoisers: a network with its schedule, target and condition map."""

from etsdm.denoisers.config import DenoiserConfig, ScheduleConfig
from etsdm.denoisers.denoiser import Denoiser, DenoiserSpec
from etsdm.denoisers.prediction import ClippedPrediction, ForeignPrediction, Prediction
from etsdm.denoisers.protocol import DenoiserLike
from etsdm.denoisers.super_resolution import SuperResolution
from etsdm.denoisers.time_point import CLEAN, TimePoint
from etsdm.denoisers.zero_denoiser import ZeroDenoiser

__all__ = [
    "CLEAN",
    "ClippedPrediction",
    "Denoiser",
    "DenoiserConfig",
    "DenoiserLike",
    "DenoiserSpec",
    "ForeignPrediction",
    "Prediction",
    "ScheduleConfig",
    "SuperResolution",
    "TimePoint",
    "ZeroDenoiser",
]
