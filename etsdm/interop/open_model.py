"""`open_model`: a denoiser from whatever holds one.

a folder of a run or checkpoint        as by `etsdm.load`
a folder or Hub id of diffusers        as by `etsdm.wrap`
a file of weights                      as by `etsdm.convert`, in memory; a safetensors file may hold a condition map in its metadata
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from etsdm.backbones import External
from etsdm.checkpoints import DENOISER_FILE, Weights, checkpoint_folder, read_checkpoint
from etsdm.denoisers.denoiser import Denoiser
from etsdm.errors import CheckpointError
from etsdm.interop.conversion import Options
from etsdm.interop.sources import ORIGINS, read_source
from etsdm.interop.wrapping import wrap
from etsdm.registry import suggestion
from etsdm.storage.faults import storage_errors

__all__ = ["kind_of_model", "open_model"]

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
DIFFUSERS_FILES = ("model_index.json", "config.json")
WRAP_FIELDS = ("schedule", "target", "condition_map", "time_input", "signature", "shape", "num_classes", "bounded")
DEFAULT_ORIGIN = "guided-diffusion"

Kind = Literal["checkpoint", "diffusers", "file"]


def kind_of_model(path: str | Path) -> Kind:
    """The kind of model at a path, by which `open_model` reads it.

    `checkpoint` for a folder of etsdm and for a path without a file, `diffusers`, or `file`.
    """
    place = Path(path)
    if place.is_file():
        return "file"
    if place.is_dir():
        is_own = (place / DENOISER_FILE).exists() or not any((place / name).exists() for name in DIFFUSERS_FILES)
        return "checkpoint" if is_own else "diffusers"
    # The name of a run that is not there, such as runs/digits, has the form of an id; its folder tells them apart.
    is_id = HUB_ID.fullmatch(str(path)) and not place.parent.exists()
    return "diffusers" if is_id else "checkpoint"


@storage_errors()
def open_model(
    path: str | Path,
    device: torch.device | str = "cpu",
    *,
    weights: Weights = "ema",
    model: Mapping[str, Any] | None = None,
    origin: str | None = None,
) -> Denoiser:
    """Opens a trained denoiser.

    Args:
        path: the folder of a checkpoint or of a run; a folder of diffusers, or the id of one on the Hugging Face Hub; or a file of weights
            of another program. Nothing in it is run.
        device: where to put the denoiser.
        weights: `ema` for the moving average, or `current`, of what holds both.
        model: what another library's files do not hold, such as `schedule` and `target`, as for `wrap` or in `Options.model`.
        origin: the program that wrote a file, a name of `etsdm.interop.sources.ORIGINS`; guided-diffusion by default.

    Returns:
        The denoiser in eval mode, with gradients of the weights off.

    Raises:
        CheckpointError: there is none, its architecture is unknown, or `model` or `origin` do not suit it.
        PartError: a field of `model` is missing or does not fit.
        IntegrityError: it is damaged, or holds code.
    """
    given, kind = dict(model or {}), kind_of_model(path)
    if origin is not None and kind != "file":
        raise CheckpointError(f"origin: {path} is no file; leave it out, or give the file of weights")
    if kind == "file":
        opened = _from_file(Path(path), origin, Options(model=given, weights=weights))
    elif kind == "diffusers":
        unknown = [name for name in given if name not in WRAP_FIELDS]
        if unknown:
            raise CheckpointError(f"{unknown[0]}: is no field of a wrapped network; {suggestion(unknown[0], WRAP_FIELDS, 'fields')}")
        opened = wrap(path, **given)
    elif given:
        raise CheckpointError(f"{next(iter(given))}: a checkpoint of etsdm has its own parts; leave it out")
    else:
        return read_checkpoint(checkpoint_folder(path), device, weights=weights).denoiser
    return opened.eval().requires_grad_(False).to(device)


def _from_file(path: Path, origin: str | None, options: Options) -> Denoiser:
    try:
        found = read_source(origin or DEFAULT_ORIGIN, path, options)
    except CheckpointError as error:
        others = ", ".join(name for name in ORIGINS if name != DEFAULT_ORIGIN)
        hint = "" if origin is not None else f" (read as a file of {DEFAULT_ORIGIN}; others need an origin: {others})"
        raise CheckpointError(f"{error}{hint}") from None
    if isinstance(found.spec.backbone, External):
        message = "holds the weights of an external network, whose code is not in the file"
        raise CheckpointError(f"{path}: {message}; load them into the network in Python, and give it to etsdm.wrap")
    denoiser = found.spec.build()
    denoiser.load_state_dict(found.state())
    return denoiser
