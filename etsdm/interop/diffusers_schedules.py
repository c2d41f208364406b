"""Schedules and targets of diffusers' schedulers, recognised by their numbers.

The alpha-bar of a scheduler, its array `alphas_cumprod`, is looked up by `schedule_search`, with the scheduler's own first and last beta
as first candidates. Flow matching and EDM have no such array; their noise levels and timesteps are compared instead. Which timesteps a
scheduler visits, and how it clips, is no part of a schedule.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from etsdm.condition_maps.time_inputs import LogSigma, Scaled, TimeInput, Timesteps
from etsdm.errors import PartError
from etsdm.interop.schedule_search import find_schedule
from etsdm.registry import targets
from etsdm.registry.frozen import quoted
from etsdm.schedules import EDM, Flow, Schedule
from etsdm.targets import X0, Eps, Target, V

__all__ = ["SchedulerParts", "read_scheduler"]

TARGETS: dict[str, Target] = {"epsilon": Eps(), "v_prediction": V(), "sample": X0(), "original_sample": X0()}
FLOW_MATCHING = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler")
EDM_SCHEDULERS = ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler")
EDM_TARGETS = {"epsilon": "edm", "v_prediction": "edm-v"}  # the same preconditioning, the output of the other sign
MEND = "give schedule= and target=, registered ones or your own subclass of etsdm.schedules.FromBetas"


class SchedulerParts(NamedTuple):
    """Schedule and target of a scheduler, and the time input of the networks that it is used with."""

    schedule: Schedule
    target: Target
    time_input: TimeInput


def read_scheduler(scheduler: Any) -> SchedulerParts:
    """Recognises the schedule and the target of a scheduler of diffusers.

    Raises:
        PartError: its numbers are those of no schedule, or its prediction type is unknown.
    """
    config: Mapping[str, Any] = getattr(scheduler, "config", {})
    name = type(scheduler).__name__
    if name in EDM_SCHEDULERS:
        return _edm(scheduler, config)
    if name in FLOW_MATCHING or config.get("use_flow_sigmas"):
        return _flow(scheduler, config)
    found = getattr(scheduler, "alphas_cumprod", None)
    if not isinstance(found, Tensor) or found.ndim != 1 or not len(found):
        raise PartError("schedule", f"{name} has no array alphas_cumprod and is unknown; {MEND}")
    if config.get("timestep_type", "discrete") != "discrete":
        raise PartError("schedule", f"{name} has timestep_type {config['timestep_type']!r}, another time than timesteps; {MEND}")
    target = _target(name, config)
    return SchedulerParts(_recognised(found, name, config), target, Timesteps())


def _target(name: str, config: Mapping[str, Any]) -> Target:
    kind = config.get("prediction_type", "epsilon")
    if kind not in TARGETS:
        raise PartError("target", f"{name} has prediction_type {quoted(kind)}, none of {', '.join(TARGETS)}; {MEND}")
    if config.get("variance_type") == "learned":
        message = f"{name} has variance_type 'learned', log variances without bounds; the known form is 'learned_range'"
        raise PartError("variance_type", f"{message}; {MEND}")
    return TARGETS[kind]


def _recognised(alpha_bar: Tensor, name: str, config: Mapping[str, Any]) -> Schedule:
    found = find_schedule(alpha_bar, _ends(config))
    if found is None:
        kind = "trained_betas" if config.get("trained_betas") is not None else f"beta_schedule {config.get('beta_schedule')!r}"
        raise PartError("schedule", f"the alphas_cumprod of {name}, {kind}, are those of no schedule here; {MEND}")
    return found


def _ends(config: Mapping[str, Any]) -> list[tuple[float, float]]:
    """First and last beta of a configuration."""
    first, last = config.get("beta_start"), config.get("beta_end")
    return [(first, last)] if config.get("trained_betas") is None and isinstance(first, float) and isinstance(last, float) else []


def _flow(scheduler: Any, config: Mapping[str, Any]) -> SchedulerParts:
    name, steps = type(scheduler).__name__, config.get("num_train_timesteps", 1000)
    if config.get("invert_sigmas"):
        raise PartError("schedule", f"{name} has invert_sigmas, time from noise to data; {MEND}")
    kind = config.get("prediction_type", "flow_prediction")
    if kind != "flow_prediction":
        raise PartError("target", f"{name} has flow sigmas and prediction_type {quoted(kind)}; {MEND}")
    return SchedulerParts(Flow(), targets.create("flow"), Scaled(factor=float(steps)))


def _edm(scheduler: Any, config: Mapping[str, Any]) -> SchedulerParts:
    kind = config.get("prediction_type", "epsilon")
    if kind not in EDM_TARGETS:
        raise PartError(
            "target", f"{type(scheduler).__name__} has prediction_type {quoted(kind)}, none of {', '.join(EDM_TARGETS)}; {MEND}"
        )
    sigma = torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64)
    if not torch.allclose(scheduler.precondition_noise(sigma).double(), LogSigma()(sigma), atol=1e-6):
        raise PartError("schedule", f"the timesteps of {type(scheduler).__name__} are not ln(sigma) / 4; {MEND}")
    return SchedulerParts(
        EDM(sigma_max=float(config["sigma_max"])), targets.create(EDM_TARGETS[kind], sigma_data=float(config["sigma_data"])), LogSigma()
    )
