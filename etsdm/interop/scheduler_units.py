"""Units of the timesteps of diffusers' schedulers, by class.

A class is known by its name; subclasses are known by their base. The units were read in diffusers 0.42.
"""

from __future__ import annotations

from typing import Any

from etsdm.errors import PartError
from etsdm.interop.time_units import HORIZON, UNITS

__all__ = ["check_unit", "scheduler_horizon", "scheduler_unit"]

_IN_TIMESTEPS = """
    CogVideoXDDIMScheduler CogVideoXDPMScheduler DDIMInverseScheduler DDIMScheduler DDPMScheduler DEISMultistepScheduler
    DPMSolverMultistepInverseScheduler DPMSolverMultistepScheduler DPMSolverSDEScheduler DPMSolverSinglestepScheduler
    EulerAncestralDiscreteScheduler EulerDiscreteScheduler FlowMatchEulerDiscreteScheduler
    FlowMatchHeunDiscreteScheduler FlowMatchLCMScheduler HeunDiscreteScheduler KDPM2AncestralDiscreteScheduler KDPM2DiscreteScheduler
    LCMScheduler LMSDiscreteScheduler LTXEulerAncestralRFScheduler PNDMScheduler SASolverScheduler TCDScheduler UnCLIPScheduler
    UniPCMultistepScheduler
"""
SCHEDULER_UNITS = {
    **dict.fromkeys(_IN_TIMESTEPS.split(), "timesteps"),
    "CosineDPMSolverMultistepScheduler": "unit-interval",  # 2 atan(sigma) / pi
    "DDPMWuerstchenScheduler": "unit-interval",
    "EDMDPMSolverMultistepScheduler": "log-sigma",
    "EDMEulerScheduler": "log-sigma",
    "IPNDMScheduler": "unit-interval",  # 2 atan(sigma / alpha) / pi
}

_NO_UNIT = "its timesteps are {}, none of the units"
NOT_SHARED = {
    "CMStochasticIterativeScheduler": _NO_UNIT.format("250 ln(sigma)"),
    "DDIMParallelScheduler": "it takes steps in parallel, and shared timesteps do not show which",
    "DDPMParallelScheduler": "it takes steps in parallel, and shared timesteps do not show which",
    "SCMScheduler": _NO_UNIT.format("atan(sigma)"),
    "RePaintScheduler": "its pipeline goes by the order of timesteps, and shared ones are equal",
}


def scheduler_unit(scheduler: Any) -> str | None:
    """Unit of a scheduler's timesteps, from its class and config; None if the class is unknown.

    Raises:
        PartError: its timesteps cannot be shared.
    """
    names, config = [cls.__name__ for cls in type(scheduler).__mro__], scheduler.config
    refused = next((name for name in names if name in NOT_SHARED), None)
    if refused is not None:
        raise PartError("scheduler", f"found a {refused}: {NOT_SHARED[refused]}; use share_timesteps on the network")
    found = next((SCHEDULER_UNITS[name] for name in names if name in SCHEDULER_UNITS), None)
    if found != "timesteps":
        return found
    if config.get("timestep_type") == "continuous":
        return "log-sigma"
    steps = "unit-interval" if config.get("num_train_timesteps") == 1 else "timesteps"
    return f"reversed-{steps}" if config.get("invert_sigmas") else steps


def scheduler_horizon(scheduler: Any, unit: str) -> float:
    """Time of pure noise: the number of training timesteps where timesteps count them."""
    steps = scheduler.config.get("num_train_timesteps")
    return float(steps) if unit in ("timesteps", "reversed-timesteps") and steps else HORIZON


def check_unit(unit: str | None, scheduler: Any) -> str:
    """The unit. Raises: PartError if it is unknown."""
    if unit is None:
        message = f"that of the timesteps of a {type(scheduler).__name__} is not known"
        raise PartError("unit", f"{message}; give one of {', '.join(UNITS)}")
    if unit not in UNITS:
        raise PartError("unit", f"found {unit!r}; give one of {', '.join(UNITS)}")
    return unit
