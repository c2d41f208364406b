"""Samplers, the grids they step on, and `sample`."""

from etsdm.samplers.analytic import Analytic
from etsdm.samplers.ancestral import DDIM, DDPM
from etsdm.samplers.base import NoiseSource, Sampler, Step
from etsdm.samplers.dpm2 import DPM2, DPM2Ancestral
from etsdm.samplers.dpm_solver import MultistepDPMSolver, SinglestepDPMSolver
from etsdm.samplers.drawing import draw, resolve_sampler, sample, sample_batches, starting_noise
from etsdm.samplers.euler import Euler, EulerAncestral
from etsdm.samplers.first_step import FirstStep
from etsdm.samplers.grids import (
    EvenIn,
    Explicit,
    Grid,
    Karras,
    Leading,
    Linspace,
    LogSNRGrid,
    QuadraticGrid,
    Respaced,
    Trailing,
    UniformGrid,
)
from etsdm.samplers.guidance import Guided
from etsdm.samplers.heun import EDMStochastic, Heun
from etsdm.samplers.inpainting import Inpainted
from etsdm.samplers.inversion import invert
from etsdm.samplers.likelihood import Likelihood, bits_per_dim, dequantised, log_likelihood
from etsdm.samplers.lms import LMS
from etsdm.samplers.multistep_sde import DPMSolverPP2MSDE, DPMSolverPP3MSDE
from etsdm.samplers.plan import Call, Parts, Plan
from etsdm.samplers.plms import PLMS
from etsdm.samplers.sdedit import img2img
from etsdm.samplers.singlestep_sde import DPMSolverPP2SAncestral, DPMSolverPPSDE
from etsdm.samplers.unipc import UniPC
from etsdm.samplers.wrappers import Drawable, Labelled, SuperResolved, Wrapper

__all__ = [
    "DDIM",
    "DDPM",
    "DPM2",
    "LMS",
    "PLMS",
    "Analytic",
    "Call",
    "DPM2Ancestral",
    "DPMSolverPP2MSDE",
    "DPMSolverPP2SAncestral",
    "DPMSolverPP3MSDE",
    "DPMSolverPPSDE",
    "Drawable",
    "EDMStochastic",
    "Euler",
    "EulerAncestral",
    "EvenIn",
    "Explicit",
    "FirstStep",
    "Grid",
    "Guided",
    "Heun",
    "Inpainted",
    "Karras",
    "Labelled",
    "Leading",
    "Likelihood",
    "Linspace",
    "LogSNRGrid",
    "MultistepDPMSolver",
    "NoiseSource",
    "Parts",
    "Plan",
    "QuadraticGrid",
    "Respaced",
    "Sampler",
    "SinglestepDPMSolver",
    "Step",
    "SuperResolved",
    "Trailing",
    "UniPC",
    "UniformGrid",
    "Wrapper",
    "bits_per_dim",
    "dequantised",
    "draw",
    "img2img",
    "invert",
    "log_likelihood",
    "resolve_sampler",
    "sample",
    "sample_batches",
    "starting_noise",
]
