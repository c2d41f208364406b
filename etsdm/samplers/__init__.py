"""Samplers: from noise to images, step by step."""

from etsdm.samplers.analytic import Analytic
from etsdm.samplers.base import Sampler
from etsdm.samplers.ddim import DDIM
from etsdm.samplers.ddpm import DDPM
from etsdm.samplers.dpm2 import DPM2, DPM2Ancestral
from etsdm.samplers.dpm_solver import MultistepDPMSolver, SinglestepDPMSolver
from etsdm.samplers.dpmpp_sde import DPMSolverPP2MSDE, DPMSolverPP2SAncestral, DPMSolverPP3MSDE, DPMSolverPPSDE
from etsdm.samplers.euler import Euler, EulerAncestral
from etsdm.samplers.heun import EDMStochastic, Heun
from etsdm.samplers.lms import LMS
from etsdm.samplers.plan import Call, Plan
from etsdm.samplers.plms import PLMS
from etsdm.samplers.step import NoiseSource, Step
from etsdm.samplers.unipc import UniPC

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
    "EDMStochastic",
    "Euler",
    "EulerAncestral",
    "Heun",
    "MultistepDPMSolver",
    "NoiseSource",
    "Plan",
    "Sampler",
    "SinglestepDPMSolver",
    "Step",
    "UniPC",
]
