"""Samplers, the grids they step on, and `sample`."""

from etsdm.samplers.ancestral import DDIM, DDPM
from etsdm.samplers.base import NoiseSource, Sampler, Step
from etsdm.samplers.drawing import resolve_sampler, sample, sample_batches
from etsdm.samplers.grids import EvenIn, Grid, Leading, Respaced, Trailing

__all__ = [
    "DDIM",
    "DDPM",
    "EvenIn",
    "Grid",
    "Leading",
    "NoiseSource",
    "Respaced",
    "Sampler",
    "Step",
    "Trailing",
    "resolve_sampler",
    "sample",
    "sample_batches",
]
