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
from importlib.util import find_spec
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from etsdm.analysis import LipschitzCurve, lipschitz_curve
    from etsdm.denoisers.denoiser import Denoiser, DenoiserSpec
    from etsdm.denoisers.prediction import Prediction
    from etsdm.errors import CheckpointError, DataError, EtsdmError, IntegrityError, PartError, RecipeError, RegistryError, StorageError
    from etsdm.experiment import Experiment, build
    from etsdm.interop import share_timesteps, wrap
    from etsdm.recipe import Recipe
    from etsdm.report.diagnosis import Diagnosis, diagnose
    from etsdm.sampling import sample
    from etsdm.zoo import load, save

__all__ = [
    "CheckpointError",
    "DataError",
    "Denoiser",
    "DenoiserSpec",
    "Diagnosis",
    "EtsdmError",
    "Experiment",
    "IntegrityError",
    "LipschitzCurve",
    "PartError",
    "Prediction",
    "Recipe",
    "RecipeError",
    "RegistryError",
    "StorageError",
    "build",
    "diagnose",
    "lipschitz_curve",
    "load",
    "sample",
    "save",
    "share_timesteps",
    "wrap",
]

_HOMES = {
    "etsdm.denoisers": ("Denoiser", "DenoiserSpec", "Prediction"),
    "etsdm.experiment": ("Experiment", "build"),
    "etsdm.zoo": ("load", "save"),
    "etsdm.analysis": ("LipschitzCurve", "lipschitz_curve"),
    "etsdm.recipe": ("Recipe",),
    "etsdm.errors": (
        "CheckpointError",
        "DataError",
        "EtsdmError",
        "IntegrityError",
        "PartError",
        "RecipeError",
        "RegistryError",
        "StorageError",
    ),
    "etsdm.interop": ("share_timesteps", "wrap"),
    "etsdm.report.diagnosis": ("Diagnosis", "diagnose"),
    "etsdm.sampling": ("sample",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("etsdm")
    if name in _HOME_OF:
        return getattr(import_module(_HOME_OF[name]), name)
    if not name.startswith("_") and find_spec(f"etsdm.{name}"):
        return import_module(f"etsdm.{name}")
    raise AttributeError(f"module 'etsdm' has no attribute {name!r}")


def __dir__() -> list[str]:
    packages = (module.name for module in iter_modules(__path__) if not module.name.startswith("_"))
    return sorted({*globals(), *__all__, *packages})
