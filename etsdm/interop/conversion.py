"""Contents of a file of another program, and the check that its tensors are those of an etsdm network, key by key."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError
from torch import Tensor, nn

from etsdm.backbones import Backbone
from etsdm.denoisers.denoiser import DenoiserSpec
from etsdm.errors import CheckpointError, EtsdmError, PartError
from etsdm.interop.stored_map import StoredMap
from etsdm.registry import cut, format_errors

__all__ = [
    "AS_STORED",
    "AbsentNetwork",
    "Converted",
    "Options",
    "Shapes",
    "Source",
    "check_horizon",
    "check_keys",
    "make_spec",
    "merged",
    "required",
    "shapes_of",
]

AS_STORED = "as stored"  # weights of which the file does not say whether they are an average
DEFAULT_HORIZON = 1000.0  # of a stored condition map
SHOWN = 5  # keys of each kind in a message

Shapes = Mapping[str, tuple[int, ...]]
Source = Callable[[Tensor, Tensor, dict[str, Tensor]], Tensor]


class AbsentNetwork(nn.Module):
    """Stands for an external network in a specification; it is never called."""


@dataclass(frozen=True)
class Options:
    """Options of a conversion.

    Attributes:
        model: fields of the denoiser in place of those found, as in a recipe's `model`; a named `backbone` replaces the one found.
        first_stage: file of the autoencoder's weights; None where the source holds them, or for images.
        weights: `ema` for the moving average, or `current`, of sources that hold both.
    """

    model: Mapping[str, Any] = field(default_factory=dict)
    first_stage: Path | None = None
    weights: Literal["ema", "current"] = "ema"


@dataclass(frozen=True)
class Converted:
    """A denoiser found in a source.

    Attributes:
        spec: its parts.
        backbone: state dict of the backbone.
        used: key in the source of each key of the backbone, and of the first stage with `first_stage.` before it.
        files: sha256 of each file of the source, by name.
        first_stage: state dict of the first stage, None without one.
        ignored: keys of the source that are not used, with the reason.
        choices: where parts that the file does not hold come from.
        weights_are: `ema`, `current`, or `AS_STORED`.
        original: the source's own network, an independent program; None without one.
    """

    spec: DenoiserSpec
    backbone: dict[str, Tensor]
    used: dict[str, str]
    files: dict[str, str]
    first_stage: dict[str, Tensor] | None = None
    ignored: dict[str, str] = field(default_factory=dict)
    choices: dict[str, str] = field(default_factory=dict)
    weights_are: str = "ema"
    original: Source | None = None

    def state(self) -> dict[str, Tensor]:
        """State dict of the denoiser."""
        stages = {f"first_stage.{key}": value for key, value in (self.first_stage or {}).items()}
        return {f"backbone.{key}": value for key, value in self.backbone.items()} | stages


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Shapes by key."""
    return {key: tuple(value.shape) for key, value in tensors.items()}


def merged(found: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a denoiser, those given in place of those found; one that is named, or has another type, replaces its part whole."""
    out = dict(found)
    for key, value in given.items():
        own = out.get(key)
        keeps = isinstance(own, Mapping) and isinstance(value, Mapping) and value.get("type", own.get("type")) == own.get("type")
        out[key] = {**own, **value} if keeps and own is not None else value
    return out


def required(path: Path, fields: Mapping[str, Any], names: Mapping[str, str]) -> None:
    """Raises CheckpointError for fields that are neither found nor given.

    Args:
        path: of the source.
        fields: fields of the denoiser.
        names: an example for each dotted name, for the mend.
    """

    def absent(name: str) -> bool:
        value: Any = fields
        for step in name.split("."):
            if isinstance(value, str):  # a preset, which has all fields
                return False
            if not isinstance(value, Mapping) or step not in value:
                return True
            value = value[step]
        return False

    if lost := [name for name in names if absent(name)]:
        mend = " ".join(f"{name}={names[name]}" for name in lost)
        raise CheckpointError(f"{path}: {', '.join(lost)}: not in the file, and no published network has these shapes; give {mend}")


def make_spec(path: Path, fields: Mapping[str, Any]) -> DenoiserSpec:
    """The denoiser of these fields. Raises: CheckpointError: one is invalid, or its weights fit no machine."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # published configurations name levels that do not exist
            spec = DenoiserSpec.model_validate(dict(fields))
        spec.check_memory()
    except ValidationError as error:
        problem = format_errors(error)[0]
        raise CheckpointError(f"{path}: model.{problem.field}: {problem.message}") from None
    except PartError as error:
        raise CheckpointError(f"{path}: model.{error}") from None
    except EtsdmError:
        raise
    except ValueError as error:
        raise CheckpointError(f"{path}: model: {error}") from None
    return spec


def check_horizon(path: Path, stored: StoredMap, spec: DenoiserSpec) -> None:
    """Raises CheckpointError if a stored condition map is in another unit than the times of the schedule. Args: path: of its file."""
    horizon, own = float(stored.argument.get("horizon", DEFAULT_HORIZON)), spec.schedule.horizon
    if horizon != own:
        message = f"its condition map is in times up to {horizon:g}, and the schedule's end at {own:g}"
        raise CheckpointError(f"{path}: {message}; give condition_map in the schedule's times")


def check_keys(path: Path, part: Backbone | nn.Module | Shapes, found: Mapping[str, Tensor], whose: str) -> None:
    """Checks that a state dict has exactly the keys and shapes of a network, and floating values.

    Args:
        path: of the source, for messages.
        part: the network, its specification, or its shapes.
        found: the state dict.
        whose: the network in a message.

    Raises:
        CheckpointError: keys are missing, not expected, or of another shape; each is named.
    """
    network = part.build_on_meta() if isinstance(part, Backbone) else part
    expected = shapes_of(network.state_dict()) if isinstance(network, nn.Module) else dict(network)
    shapes = shapes_of(found)
    wrong = {key for key in expected.keys() & shapes.keys() if expected[key] != shapes[key]}
    problems = [
        _listed("missing", expected.keys() - shapes.keys()),
        _listed("not expected", shapes.keys() - expected.keys()),
        _listed("of another shape", {f"{key} {_size(shapes[key])} in place of {_size(expected[key])}" for key in wrong}),
    ]
    if text := "; ".join(filter(None, problems)):
        mend = "give the fields of its network, such as backbone.num_res_blocks=2, or the file of another"
        raise CheckpointError(f"{path}: does not fit {whose}: {text}; {mend}")
    if odd := sorted(key for key, value in found.items() if not value.is_floating_point()):
        raise CheckpointError(f"{path}: {cut(odd[0])!r} has values of {found[odd[0]].dtype}, and floating ones are expected")


def _listed(kind: str, keys: set[str]) -> str:
    if not keys:
        return ""
    shown = ", ".join(cut(key, 120) for key in sorted(keys)[:SHOWN])
    more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return f"{len(keys)} keys {kind} ({shown}{more})"


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "()"
