"""Denoisers: a network with its schedule, target and condition map."""

from etsdm.denoisers.denoiser import Denoiser, DenoiserSpec
from etsdm.denoisers.prediction import Prediction
from etsdm.denoisers.protocol import Predictor
from etsdm.denoisers.super_resolution import SuperResolution

__all__ = ["Denoiser", "DenoiserSpec", "Prediction", "Predictor", "SuperResolution"]
