"""CompVis/latent-diffusion: a Lightning checkpoint, whose `state_dict` holds the whole model.

    model.diffusion_model.*      the UNet
    model_ema.*                  its moving average; a key has the dots of its parameter's name removed
    first_stage_model.*          the autoencoder; its latents are multiplied by `scale_factor`
    cond_stage_model.*           an embedding of labels, or a network of words
    alphas_cumprod, betas, ...   tables of the schedule

The target is eps unless another is given.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from etsdm.errors import CheckpointError, PartError
from etsdm.interop.conversion import Converted, Options, check_keys, make_spec, merged, required, shapes_of
from etsdm.interop.origins.first_stage_keys import PREFIX, check_first_stage, first_stage_fields, read_first_stage, split_first_stage
from etsdm.interop.origins.unet_keys import preset_of, unet_fields
from etsdm.interop.safe_load import read_contents, tensors_of
from etsdm.interop.schedule_search import schedule_of
from etsdm.registry import cut

__all__ = ["read"]

UNET, EMA, CONDITION = "model.diffusion_model.", "model_ema.", "cond_stage_model."
LABELS = "cond_stage_model.embedding.weight"
PUBLISHED = ("ldm-ffhq", "ldm-lsun-churches", "ldm-cin256")
TABLES = {"betas", "logvar", "lvlb_weights", "scale_factor", "log_one_minus_alphas_cumprod"}
TABLE_STARTS = ("alphas_cumprod", "sqrt_", "posterior_")


def read(path: Path, options: Options) -> Converted:
    """Reads a checkpoint of latent diffusion.

    Args:
        path: a torch or safetensors file.
        options: `first_stage` for a file without one; `model` names what shapes do not hold.

    Raises:
        CheckpointError: the keys fit no network, or a field has to be given.
        IntegrityError: the file is damaged or holds more than tensors.
    """
    contents = read_contents(path)
    inside = "state_dict" if "state_dict" in contents.values else ""
    tensors = tensors_of(path, contents.values[inside] if inside else contents.values, inside)
    unet, used, ignored, weights_are = _unet(path, tensors, options)
    stage = {key.removeprefix(PREFIX): value for key, value in tensors.items() if key.startswith(PREFIX)}
    stage, of_training = split_first_stage(stage)
    ignored |= {f"{PREFIX}{key}": reason for key, reason in of_training.items()} | _others(path, tensors)
    files, choices = dict(contents.files), {"architecture": "from keys and shapes"}
    if not stage and options.first_stage is not None:
        stage, of_stage = read_first_stage(options.first_stage)
        files |= of_stage.files
        choices["first_stage"] = options.first_stage.name

    fields: dict[str, Any] = {"target": "eps", "backbone": _backbone(path, unet, tensors, choices)}
    if LABELS in tensors:
        unet["label_context.weight"], used["label_context.weight"] = tensors[LABELS], LABELS
    fields |= _schedule(path, tensors, options)
    fields = merged(fields, options.model)
    required(path, fields, {"schedule": "ldm", "backbone.image_size": "64", "backbone.num_head_channels": "32"} if _open(fields) else {})
    if stage:
        fields = merged({**fields, "first_stage": _first_stage(path, stage, fields, tensors)}, options.model)
    elif "first_stage" not in fields:
        message = "has no first stage; give --first-stage FILE, its autoencoder, or first_stage=null for a model of images"
        raise CheckpointError(f"{path}: {message}")
    spec = make_spec(path, fields)
    check_keys(path, spec.backbone, unet, f"backbone {spec.backbone.type_name!r}")
    if spec.first_stage is not None:
        check_first_stage(path, spec.first_stage, stage)
        origin = "" if options.first_stage is not None else PREFIX
        used |= {f"first_stage.{key}": f"{origin}{key}" for key in stage}
    choices |= {f"model.{key}": "given" for key in options.model}
    return Converted(spec, unet, used, files, stage or None, ignored, choices, weights_are)


def _unet(path: Path, tensors: dict[str, Tensor], options: Options) -> tuple[dict[str, Tensor], dict[str, str], dict[str, str], str]:
    """The UNet's tensors, their keys in the file, those that are not used, and which weights they are."""
    current = {key.removeprefix(UNET): value for key, value in tensors.items() if key.startswith(UNET)}
    if not current:
        raise CheckpointError(f"{path}: is no checkpoint of latent diffusion: it has no {UNET}* keys; give one")
    averages = {key for key in tensors if key.startswith(EMA)}
    counters = {f"{EMA}decay", f"{EMA}num_updates"} & averages
    ignored = dict.fromkeys(counters, "counter of the moving average")
    if options.weights == "current" or averages == counters:
        ignored |= dict.fromkeys(averages - counters, "moving average; the current weights are used")
        return current, {key: f"{UNET}{key}" for key in current}, ignored, "current"
    name_of = {key: EMA + f"diffusion_model.{key}".replace(".", "") for key in current}
    names = set(name_of.values())
    if len(names) != len(name_of):
        raise CheckpointError(f"{path}: two names of its moving average are equal without their dots; give weights current")
    if odd := sorted((averages - counters) ^ names):
        problem = "is missing" if odd[0] in names else "is of no weight of the UNet"
        raise CheckpointError(f"{path}: {cut(odd[0])!r} {problem} in its moving average; give weights current")
    ignored |= {f"{UNET}{key}": "current weight; the moving average is used" for key in current}
    return {key: tensors[name] for key, name in name_of.items()}, name_of, ignored, "ema"


def _others(path: Path, tensors: dict[str, Tensor]) -> dict[str, str]:
    ignored = {}
    for key in tensors:
        if key.startswith((UNET, EMA, PREFIX)) or key == LABELS:
            continue
        if key in TABLES or key.startswith(TABLE_STARTS):
            ignored[key] = "table of the schedule, or of the loss"
        elif key.startswith(CONDITION):
            ignored[key] = "network of the context; give the context itself"
        else:
            raise CheckpointError(f"{path}: key {cut(key)!r} is of no part of latent diffusion; give a checkpoint of its model")
    return ignored


def _backbone(path: Path, unet: dict[str, Tensor], tensors: dict[str, Tensor], choices: dict[str, str]) -> dict[str, Any]:
    shapes = shapes_of(unet)
    name = preset_of(shapes, PUBLISHED)
    if name is None:
        fields: dict[str, Any] = {"type": "ldm-unet", **unet_fields(path, shapes, "latent-diffusion")}
    else:
        choices["architecture"] = f"the published {name}, which has these keys and shapes"
        fields = {"type": name}
    if LABELS in tensors:
        fields |= {"num_classes": len(tensors[LABELS]), "label_context": True}
    return fields


def _open(fields: dict[str, Any]) -> bool:
    """Whether the backbone's heads and size have to be given."""
    backbone = fields["backbone"]
    return isinstance(backbone, dict) and backbone["type"] == "ldm-unet" and "num_heads" not in backbone


def _schedule(path: Path, tensors: dict[str, Tensor], options: Options) -> dict[str, Any]:
    if "schedule" in options.model or "alphas_cumprod" not in tensors:
        return {}
    try:
        return {"schedule": schedule_of(tensors["alphas_cumprod"])}
    except PartError as error:
        raise CheckpointError(f"{path}: alphas_cumprod: {error}") from None


def _first_stage(path: Path, stage: dict[str, Tensor], fields: dict[str, Any], tensors: dict[str, Tensor]) -> dict[str, Any]:
    size = make_spec(path, {key: value for key, value in fields.items() if key != "first_stage"}).backbone.image_size
    found = first_stage_fields(path, shapes_of(stage), size)
    return found | ({"scale_factor": float(tensors["scale_factor"])} if "scale_factor" in tensors else {})
