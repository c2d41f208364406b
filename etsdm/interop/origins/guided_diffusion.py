"""openai/guided-diffusion and improved-diffusion: a plain state dict, such as `ema_0.9999_100000.pt` or `256x256_diffusion.pt`.

The target is eps; twice the channels at the output are a learned variance. Published networks are known by their shapes, and their
schedules are those of the commands in the two READMEs; of others the schedule has to be given. improved-diffusion passes t 1000 / T to
the network (`rescale_timesteps`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from etsdm.errors import CheckpointError
from etsdm.interop.conversion import Converted, Options, check_keys, make_spec, merged, required, shapes_of
from etsdm.interop.origins.unet_keys import preset_of, unet_fields
from etsdm.interop.safe_load import read_contents, tensors_of

__all__ = ["read"]

UPSAMPLER = {"super_resolution": {"factor": 4, "filter": "bilinear"}}
PUBLISHED: dict[str, dict[str, Any]] = {
    "adm-imagenet-64": {"schedule": "cosine"},
    "adm-imagenet-128": {"schedule": "linear"},
    "adm-imagenet-256": {"schedule": "linear"},
    "adm-imagenet-256-uncond": {"schedule": "linear"},
    "adm-imagenet-512": {"schedule": "linear"},
    "adm-upsampler-64-256": {"schedule": "linear", **UPSAMPLER},
    "adm-upsampler-128-512": {"schedule": "linear", **UPSAMPLER},
    "improved-cifar10": {"schedule": {"type": "cosine", "timesteps": 4000}, "time_input": {"type": "scaled", "factor": 0.25}},
}


def read(path: Path, options: Options) -> Converted:
    """Reads a state dict of guided-diffusion.

    Args:
        path: a torch or safetensors file.
        options: `model` names what shapes do not hold.

    Raises:
        CheckpointError: the keys fit no network, or a field has to be given.
        IntegrityError: the file is damaged or holds more than tensors.
    """
    contents = read_contents(path)
    tensors = tensors_of(path, contents.values)
    if options.first_stage is not None:
        raise CheckpointError("first_stage: guided-diffusion's networks are of images; leave it out")
    shapes = shapes_of(tensors)
    found = unet_fields(path, shapes, "guided-diffusion")
    name = preset_of(shapes, tuple(PUBLISHED)) if isinstance(options.model.get("backbone", {}), dict) else None
    if name is None:
        fields: dict[str, Any] = {"target": "eps", "backbone": {"type": "adm-unet", **found}}
        choices = {"architecture": "from keys and shapes"}
    else:
        fields = {"target": "eps", "backbone": {"type": name}, **PUBLISHED[name]}
        choices = {"architecture": f"the published {name}, which has these keys and shapes", "schedule": f"that of {name}"}
    fields = merged(fields, options.model)
    if name is None:
        heads = "num_heads" if "num_heads" in dict(_mapping(fields["backbone"])) else "num_head_channels"
        examples = {"schedule": "linear", "backbone.image_size": "64", f"backbone.{heads}": "64"}
        required(path, fields, examples)
    spec = make_spec(path, fields)
    check_keys(path, spec.backbone, tensors, f"backbone {spec.backbone.type_name!r}")
    choices |= {f"model.{key}": "given" for key in options.model}
    weights_are = "ema" if path.name.startswith("ema") else options.weights
    return Converted(spec, tensors, {key: key for key in tensors}, contents.files, choices=choices, weights_are=weights_are)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
