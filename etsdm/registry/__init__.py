"""Registries of all interchangeable parts, by name.

    from etsdm.registry import schedules, condition_maps
    schedules.names()
    schedules.create("linear", timesteps=1000)

Importing this package does not import torch: a registry imports the package of its parts at the first lookup.
"""

from typing import Any

from etsdm.registry.frozen import FieldProblem, Frozen, cut, field_error, format_errors, quoted, suggestion
from etsdm.registry.part import Part
from etsdm.registry.registry import Registry
from etsdm.registry.schema import json_schema

__all__ = [
    "REGISTRIES",
    "FieldProblem",
    "Frozen",
    "Part",
    "Registry",
    "backbones",
    "condition_maps",
    "cut",
    "datasets",
    "emas",
    "field_error",
    "first_stages",
    "format_errors",
    "grids",
    "json_schema",
    "losses",
    "lr_schedules",
    "metrics",
    "optimizers",
    "quoted",
    "samplers",
    "schedules",
    "suggestion",
    "targets",
    "time_inputs",
    "time_samplers",
    "weightings",
]

schedules: Registry[Any] = Registry("schedules", "etsdm.schedules", "schedule")
targets: Registry[Any] = Registry("targets", "etsdm.targets", "target")
condition_maps: Registry[Any] = Registry("condition_maps", "etsdm.condition_maps", "condition map")
time_inputs: Registry[Any] = Registry("time_inputs", "etsdm.condition_maps", "time input")
backbones: Registry[Any] = Registry("backbones", "etsdm.backbones", "backbone")
first_stages: Registry[Any] = Registry("first_stages", "etsdm.backbones.first_stages", "first stage")
datasets: Registry[Any] = Registry("datasets", "etsdm.data", "data set")
losses: Registry[Any] = Registry("losses", "etsdm.losses", "loss")
weightings: Registry[Any] = Registry("weightings", "etsdm.losses", "weighting")
time_samplers: Registry[Any] = Registry("time_samplers", "etsdm.losses", "time sampler")
samplers: Registry[Any] = Registry("samplers", "etsdm.samplers", "sampler")
grids: Registry[Any] = Registry("grids", "etsdm.grids", "grid")
metrics: Registry[Any] = Registry("metrics", "etsdm.metrics", "metric")
optimizers: Registry[Any] = Registry("optimizers", "etsdm.training", "optimizer")
lr_schedules: Registry[Any] = Registry("lr_schedules", "etsdm.training", "learning-rate schedule")
emas: Registry[Any] = Registry("emas", "etsdm.training", "moving average")

REGISTRIES: dict[str, Registry[Any]] = {
    registry.name: registry
    for registry in (
        schedules,
        targets,
        condition_maps,
        time_inputs,
        backbones,
        first_stages,
        datasets,
        losses,
        weightings,
        time_samplers,
        samplers,
        grids,
        metrics,
        optimizers,
        lr_schedules,
        emas,
    )
}
