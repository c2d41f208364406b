"""Export to the files of the original programs, whose keys are those of the backbones.

    guided-diffusion, dit    the state dict
    ldm                      {"state_dict": UNet, its moving average, first stage, tables of the schedule}
    edm                      {"ema": state dict of the preconditioning, "network": arguments of `construct_class_by_name`}

Each function reads the written file again, returns the comparison of its tensors (`etsdm.interop.comparison`), and raises IntegrityError
where one differs.

None of these files has a place for a condition map, so that the program that loads it has to call the network at f(t).
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from etsdm.backbones import ADMUNet, LDMUNet
from etsdm.backbones.dit import DiT
from etsdm.backbones.edm_network import ORIGINAL_PREFIX, EDMUNet
from etsdm.backbones.song import SongUNet
from etsdm.denoisers.denoiser import Denoiser
from etsdm.errors import CheckpointError
from etsdm.interop.comparison import compare_tensors
from etsdm.interop.safe_load import read_contents
from etsdm.storage.files import atomic_files
from etsdm.targets import EDM

__all__ = ["export_dit", "export_edm", "export_guided_diffusion", "export_ldm"]

EDM_NAMES = {"image_size": "img_resolution", "in_channels": "img_channels", "num_classes": "label_dim"}
SAME = {"out_channels", "type"}  # follow from the others


def export_guided_diffusion(denoiser: Denoiser, path: Path) -> dict[str, Any]:
    """Writes the state dict of an `adm-unet`. Raises: CheckpointError: it is another network."""
    spec = denoiser.spec
    if not isinstance(spec.backbone, ADMUNet) or isinstance(spec.backbone, LDMUNet):
        raise CheckpointError(f"to guided-diffusion: backbone: {spec.backbone.type_name!r} is another network, adm-unet is expected")
    if spec.first_stage is not None:
        raise CheckpointError("to guided-diffusion: first_stage: guided-diffusion has none; export to safetensors instead")
    return _save(path, _tensors(denoiser.backbone))


def export_dit(denoiser: Denoiser, path: Path) -> dict[str, Any]:
    """Writes the state dict of a `dit`, without its first stage. Raises: CheckpointError: it is another network."""
    if not isinstance(denoiser.spec.backbone, DiT):
        raise CheckpointError(f"to dit: backbone: {denoiser.spec.backbone.type_name!r} is another network, dit is expected")
    return _save(path, _tensors(denoiser.backbone))


def export_ldm(denoiser: Denoiser, path: Path) -> dict[str, Any]:
    """Writes a checkpoint of latent diffusion from an `ldm-unet` with its first stage.

    Raises:
        CheckpointError: it is another network, has no first stage, or a continuous schedule.
    """
    spec = denoiser.spec
    if not isinstance(spec.backbone, LDMUNet):
        raise CheckpointError(f"to ldm: backbone: {spec.backbone.type_name!r} is another network, ldm-unet is expected")
    if denoiser.first_stage is None or spec.first_stage is None:
        raise CheckpointError("to ldm: first_stage: there is none, and latent diffusion has one; export to safetensors instead")
    if not spec.schedule.is_discrete:
        raise CheckpointError(f"to ldm: schedule: {spec.schedule.type_name!r} is continuous; export to safetensors instead")
    unet = _tensors(denoiser.backbone)
    labels = unet.pop("label_context.weight", None)
    state = {f"model.diffusion_model.{key}": value for key, value in unet.items()}
    state |= {"model_ema." + f"diffusion_model.{key}".replace(".", ""): value for key, value in unet.items()}
    state |= {f"first_stage_model.{key}": value for key, value in _tensors(denoiser.first_stage).items()}
    state |= {} if labels is None else {"cond_stage_model.embedding.weight": labels}
    times = torch.arange(int(spec.schedule.horizon), dtype=torch.float64)
    state |= {"alphas_cumprod": spec.schedule.alpha_bar(times).float(), "betas": spec.schedule.beta(times).float()}
    state |= {"scale_factor": torch.tensor(spec.first_stage.scale_factor, dtype=torch.float64)}
    state |= {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(0)}
    return _save(path, {"state_dict": state})


def export_edm(denoiser: Denoiser, path: Path) -> dict[str, Any]:
    """Writes the state dict of `EDMPrecond` with a `song-unet` or `dhariwal-unet`, and the arguments that make it.

    A pickle in EDM's own form would need its source code.

    Raises:
        CheckpointError: it is another network, schedule or target.
    """
    spec = denoiser.spec
    if not isinstance(spec.backbone, EDMUNet):
        raise CheckpointError(f"to edm: backbone: {spec.backbone.type_name!r} is another network; song-unet or dhariwal-unet is expected")
    if not isinstance(spec.target, EDM) or spec.schedule.type_name != "edm":
        found = f"schedule {spec.schedule.type_name!r} with target {spec.target.type_name!r}"
        raise CheckpointError(f"to edm: {found} is not EDM's preconditioning; export to safetensors instead")
    fields = spec.backbone.model_dump(mode="json")
    arguments = {EDM_NAMES.get(key, key): value for key, value in fields.items() if key not in SAME}
    network: dict[str, Any] = {
        "class_name": "training.networks.EDMPrecond",
        "model_type": "SongUNet" if isinstance(spec.backbone, SongUNet) else "DhariwalUNet",
        "sigma_data": spec.target.sigma_data,
        **arguments,
        "label_dim": spec.backbone.num_classes or 0,
    }
    state = {f"{ORIGINAL_PREFIX}{key}": value for key, value in _tensors(denoiser.backbone).items()}
    return _save(path, {"ema": state, "network": network})


def _tensors(network: torch.nn.Module) -> dict[str, Tensor]:
    return {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}


def _save(path: Path, values: dict[str, Any]) -> dict[str, Any]:
    with atomic_files(path) as file:
        buffer = io.BytesIO()  # torch's own writer hides the error of a full disk
        torch.save(values, buffer)
        file.write_bytes(buffer.getbuffer())
        written = read_contents(file).values
        return compare_tensors(path, _flat(values), _flat(written))


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Tensor]:
    """Tensors of nested mappings by key."""
    found: dict[str, Tensor] = {}
    for key, value in values.items():
        found |= (
            _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value} if isinstance(value, Tensor) else {}
        )
    return found
