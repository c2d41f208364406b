"""First stages in the layout of CompVis/latent-diffusion: the specification from keys and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from etsdm.backbones.first_stages import FirstStage
from etsdm.errors import CheckpointError
from etsdm.interop.conversion import Shapes, check_keys
from etsdm.interop.origins.diffusers_first_stage import from_diffusers_first_stage, is_diffusers_first_stage
from etsdm.interop.safe_load import read_contents, tensors_of

__all__ = ["StageFile", "check_first_stage", "first_stage_fields", "read_first_stage", "split_first_stage"]

PREFIX = "first_stage_model."
PARTS = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.", "quantize.")
MAX_LEVELS = 16
OF_TRAINING = ("loss.", "model_ema.")


class StageFile(NamedTuple):
    """A file of a first stage. Fields: tensors, its state dict; names, the key in the file of each key; files, sha256 by name."""

    tensors: dict[str, Tensor]
    names: dict[str, str]
    files: dict[str, str]


def read_first_stage(path: Path) -> StageFile:
    """Reads a file of a first stage alone, in the layout of latent diffusion or of diffusers.

    Raises:
        CheckpointError: a key is of another network; also as in `read_contents` and `tensors_of`.
    """
    contents = read_contents(path)
    inside = "state_dict" if isinstance(contents.values.get("state_dict"), dict) else ""
    tensors = tensors_of(path, contents.values[inside] if inside else contents.values, inside)
    names = {key.removeprefix(PREFIX): key for key in tensors}
    if is_diffusers_first_stage(tensors):
        found = from_diffusers_first_stage(tensors)
        names = {key: theirs for key, (theirs, _) in found.items()}
        tensors = {key: value for key, (_, value) in found.items()}
    network, of_training = split_first_stage({key.removeprefix(PREFIX): value for key, value in tensors.items()})
    unknown = sorted(key for key in network if not key.startswith(PARTS))
    if unknown or not network:
        odd = f"key {names[unknown[0]]!r}" if unknown else "none of its keys"
        raise CheckpointError(f"{path}: {odd} is not of a first stage of latent diffusion; give the file of its autoencoder")
    return StageFile(network, {key: name for key, name in names.items() if key not in of_training}, contents.files)


def split_first_stage(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The first stage's own tensors, and the others by the reason for which they are not used."""
    ignored = {key: "training of the first stage" for key in tensors if key.startswith(OF_TRAINING)}
    return {key: value for key, value in tensors.items() if key not in ignored}, ignored


def check_first_stage(path: Path, spec: FirstStage, tensors: Mapping[str, Tensor]) -> None:
    """Checks keys and shapes of a first stage; errors are those of `check_keys`."""
    with torch.device("meta"):
        network = spec.build()
    check_keys(path, network, tensors, f"first stage {spec.type_name!r}")


def first_stage_fields(path: Path, shapes: Shapes, latent_size: int) -> dict[str, Any]:
    """Fields of the first stage with these keys.

    Args:
        path: of the source, for messages.
        shapes: of its state dict.
        latent_size: height and width of the latents that are denoised.

    Raises:
        CheckpointError: the keys are not of such a network.
    """
    try:
        return _fields(shapes, latent_size)
    except (KeyError, IndexError, ValueError) as error:
        reason = f"key {error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(f"{path}: is no first stage of latent diffusion: {reason}; give the file of its autoencoder") from None


def _fields(shapes: Shapes, latent_size: int) -> dict[str, Any]:
    width, in_channels = shapes["encoder.conv_in.weight"][:2]
    levels = 1 + max((int(key.split(".")[2]) for key in shapes if key.startswith("encoder.down.")), default=0)
    if levels > MAX_LEVELS:
        raise ValueError(f"its keys are of {levels} levels")
    z_channels, moments = shapes["decoder.conv_in.weight"][1], shapes["encoder.conv_out.weight"][0]
    resolution = latent_size << (levels - 1)
    attending = [level for level in range(levels) if f"encoder.down.{level}.attn.0.q.weight" in shapes]
    fields: dict[str, Any] = {
        "type": "kl" if moments == 2 * z_channels else "vq",
        "resolution": resolution,
        "in_channels": in_channels,
        "out_ch": shapes["decoder.conv_out.weight"][0],
        "ch": width,
        "num_res_blocks": sum(key.startswith("encoder.down.0.block.") and key.endswith(".conv1.weight") for key in shapes),
        "attn_resolutions": [resolution >> level for level in attending],
        "z_channels": z_channels,
        "embed_dim": shapes["post_quant_conv.weight"][1],
        "ch_mult": [shapes[f"encoder.down.{level}.block.0.conv1.weight"][0] // width for level in range(levels)],
        "attn_type": "vanilla" if "encoder.mid.attn_1.q.weight" in shapes else "none",
        "resamp_with_conv": levels == 1 or "encoder.down.0.downsample.conv.weight" in shapes,
    }
    if fields["type"] == "vq":
        fields["n_embed"] = shapes["quantize.embedding.weight"][0]
    return fields
