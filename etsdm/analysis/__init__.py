"""Analysis of a denoiser: Lipschitz curves in time, stability, log-likelihood of images."""

from etsdm.analysis.likelihood import Likelihood, bits_per_dim, dequantised, log_likelihood
from etsdm.analysis.lipschitz import LipschitzCurve, lipschitz_curve
from etsdm.analysis.measured_model import MeasuredModel
from etsdm.analysis.modes import MODES
from etsdm.analysis.stability import StabilityCurve, stability_curve
from etsdm.analysis.time_grid import edges_of, measured_edges, measured_times, range_name, steps_below, steps_of_curve
from etsdm.analysis.time_pairs import timesteps

__all__ = [
    "MODES",
    "Likelihood",
    "LipschitzCurve",
    "MeasuredModel",
    "StabilityCurve",
    "bits_per_dim",
    "dequantised",
    "edges_of",
    "lipschitz_curve",
    "log_likelihood",
    "measured_edges",
    "measured_times",
    "range_name",
    "stability_curve",
    "steps_below",
    "steps_of_curve",
    "timesteps",
]
