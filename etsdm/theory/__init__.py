"""Closed forms of the optimum of training on Gaussian mixtures, and the exact denoiser."""

from etsdm.theory.bound import SharingBound, sharing_bound
from etsdm.theory.exact import ExactDenoiser
from etsdm.theory.gaussian import ddim_response, ddim_spread, ddpm_spread, gaussian_lipschitz
from etsdm.theory.mixtures import MIXTURES, GaussianMixture, mixture
from etsdm.theory.sharing import shared_optimum
from etsdm.theory.singularity import Optimum, RatesAtZero, optimum, optimum_rates, rates_at_zero

__all__ = [
    "MIXTURES",
    "ExactDenoiser",
    "GaussianMixture",
    "Optimum",
    "RatesAtZero",
    "SharingBound",
    "ddim_response",
    "ddim_spread",
    "ddpm_spread",
    "gaussian_lipschitz",
    "mixture",
    "optimum",
    "optimum_rates",
    "rates_at_zero",
    "shared_optimum",
    "sharing_bound",
]
