"""facebookresearch/DiT: a plain state dict such as `DiT-XL-2-256x256.pt`, or a checkpoint of its training with `model` and `ema`.

All sizes but the heads are in the shapes, and the heads of the published widths are known. The schedule is `linear` with T = 1000, the
target eps with a learned variance, and x are latents of Stable Diffusion's autoencoder, whose file is given.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from torch import Tensor

from etsdm.errors import CheckpointError
from etsdm.interop.conversion import AS_STORED, Converted, Options, Shapes, check_keys, make_spec, merged, required, shapes_of
from etsdm.interop.origins.first_stage_keys import check_first_stage, first_stage_fields, read_first_stage
from etsdm.interop.safe_load import read_contents, tensors_of

__all__ = ["dit_fields", "read"]

HEADS = {384: 6, 768: 12, 1024: 16, 1152: 16}  # by width: S, B, L, XL
SCALE_FACTOR = 0.18215  # of Stable Diffusion's latents
OF_TRAINING = {"model", "ema", "opt", "args"}


def read(path: Path, options: Options) -> Converted:
    """Reads a checkpoint of DiT.

    Args:
        path: a torch or safetensors file.
        options: `first_stage`, the autoencoder's file; `model.first_stage: null` for images.

    Raises:
        CheckpointError: the keys fit no network, or a field has to be given.
        IntegrityError: the file is damaged or holds more than tensors.
    """
    contents = read_contents(path)
    values, ignored, used_part = _weights(path, contents.values, options)
    tensors = tensors_of(path, values, used_part)
    found = dit_fields(path, shapes_of(tensors))
    fields: dict[str, Any] = {"schedule": "linear", "target": "eps", "backbone": {"type": "dit", **found}}
    choices = {"architecture": "from keys and shapes", "schedule": "that of DiT's training"}
    fields = merged(fields, options.model)
    required(path, fields, {"backbone.num_heads": "6"})
    stage: dict[str, Tensor] = {}
    names: dict[str, str] = {}
    files = dict(contents.files)
    if options.first_stage is not None:
        stage, names, of_stage = read_first_stage(options.first_stage)
        files |= of_stage
        own = {**first_stage_fields(options.first_stage, shapes_of(stage), found["image_size"]), "scale_factor": SCALE_FACTOR}
        fields = merged({**fields, "first_stage": own}, options.model)
    elif "first_stage" not in fields:
        message = "denoises latents; give --first-stage FILE, the autoencoder's weights, or first_stage=null for a model of images"
        raise CheckpointError(f"{path}: {message}")
    spec = make_spec(path, fields)
    check_keys(path, spec.backbone, tensors, f"backbone {spec.backbone.type_name!r}")
    used = {key: f"{used_part}.{key}" if used_part else key for key in tensors}
    if spec.first_stage is not None:
        check_first_stage(options.first_stage or path, spec.first_stage, stage)
        used |= {f"first_stage.{key}": names[key] for key in stage}
    choices |= {f"model.{key}": "given" for key in options.model}
    weights_are = {"model": "current", "ema": "ema"}.get(used_part, AS_STORED)
    return Converted(spec, tensors, used, files, stage or None, ignored, choices, weights_are)


def dit_fields(path: Path, shapes: Shapes) -> dict[str, Any]:
    """Fields of `dit` that shapes determine, and the heads of a published width. Raises: CheckpointError: the keys are of no DiT."""
    try:
        width, in_channels, patch = shapes["x_embedder.proj.weight"][:3]
        side = math.isqrt(shapes["pos_embed"][1])
        depth = 1 + max((int(key.split(".")[1]) for key in shapes if key.startswith("blocks.")), default=-1)
        fields: dict[str, Any] = {
            "image_size": side * patch,
            "in_channels": in_channels,
            "out_channels": shapes["final_layer.linear.weight"][0] // patch**2,
            "patch_size": patch,
            "hidden_size": width,
            "depth": depth,
            "mlp_ratio": shapes["blocks.0.mlp.fc1.weight"][0] / width,
        }
        if "y_embedder.embedding_table.weight" in shapes:
            fields["num_classes"] = shapes["y_embedder.embedding_table.weight"][0]
    except (KeyError, ValueError, IndexError, ZeroDivisionError) as error:
        reason = f"key {error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(f"{path}: is no DiT: {reason}; give the file of one, or wrap the network instead") from None
    return fields | ({"num_heads": HEADS[width]} if width in HEADS else {})


def _weights(path: Path, values: dict[str, Any], options: Options) -> tuple[Any, dict[str, str], str]:
    """The state dict, what is not used of the file, and the key of the state dict in it."""
    if not {"model", "ema"} <= values.keys():
        return values, {}, ""
    if odd := sorted(values.keys() - OF_TRAINING):
        raise CheckpointError(f"{path}: {odd[0]!r} is no part of a checkpoint of DiT's training; give model, ema, opt and args alone")
    part = "ema" if options.weights == "ema" else "model"
    ignored = {key: "state of the training" if key in ("opt", "args") else f"{part} is used" for key in values if key != part}
    return values[part], ignored, part
