"""etsdm: diffusion models that are smooth in time.

    import etsdm
    exp = etsdm.build("digits")                       # a recipe: name, path or mapping
    exp.run()                                         # train, sample, evaluate, report
    den = etsdm.load("runs/digits/e-tsdm")            # the trained denoiser, its condition map included
    images = etsdm.sample(den, n=16, steps=50, seed=0)

Importing etsdm is fast: torch is imported when something first needs it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from etsdm.denoiser import Denoiser, DenoiserSpec
    from etsdm.errors import CheckpointError, DataError, EtsdmError, IntegrityError, RecipeError, RegistryError
    from etsdm.experiment import Experiment, build, load
    from etsdm.lipschitz import LipschitzCurve, lipschitz_curve
    from etsdm.prediction import Prediction
    from etsdm.recipe import Recipe
    from etsdm.samplers import sample

__all__ = [
    "CheckpointError",
    "DataError",
    "Denoiser",
    "DenoiserSpec",
    "EtsdmError",
    "Experiment",
    "IntegrityError",
    "LipschitzCurve",
    "Prediction",
    "Recipe",
    "RecipeError",
    "RegistryError",
    "build",
    "lipschitz_curve",
    "load",
    "sample",
]

_HOMES = {
    "etsdm.denoiser": ("Denoiser", "DenoiserSpec"),
    "etsdm.experiment": ("Experiment", "build", "load"),
    "etsdm.lipschitz": ("LipschitzCurve", "lipschitz_curve"),
    "etsdm.prediction": ("Prediction",),
    "etsdm.recipe": ("Recipe",),
    "etsdm.errors": ("CheckpointError", "DataError", "EtsdmError", "IntegrityError", "RecipeError", "RegistryError"),
    "etsdm.samplers": ("sample",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_PACKAGES = (
    "backbones",
    "condition_maps",
    "data",
    "lipschitz",
    "losses",
    "metrics",
    "recipe",
    "registry",
    "samplers",
    "schedules",
    "targets",
    "theory",
    "time_inputs",
    "training",
)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("etsdm")
    if name in _HOME_OF:
        return getattr(import_module(_HOME_OF[name]), name)
    if name in _PACKAGES:
        return import_module(f"etsdm.{name}")
    raise AttributeError(f"module 'etsdm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_PACKAGES})
