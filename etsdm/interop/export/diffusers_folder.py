"""Export to diffusers: a folder that `DDPMPipeline`, `DDIMPipeline` and `from_pretrained` load.

    model_index.json
    unet/config.json, diffusion_pytorch_model.safetensors
    scheduler/scheduler_config.json
    README.md

A condition map is in the network, as a table of its time embedding (`etsdm.interop.diffusers_unet`), and as JSON in unet/config.json.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from etsdm.backbones import ADMUNet
from etsdm.condition_maps import Identity, Timesteps
from etsdm.denoisers.denoiser import Denoiser, DenoiserSpec
from etsdm.errors import CheckpointError, PartError
from etsdm.interop.comparison import compare_tensors
from etsdm.interop.diffusers_unet import SPEC_KEY, TIME_TABLE, config_of, time_table, to_diffusers
from etsdm.interop.stored_map import MAP_KEY
from etsdm.schedules import Cosine, Linear, Quadratic, Schedule, ZeroTerminal

__all__ = ["export_diffusers"]

TARGETS = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}
BETAS = {Linear: "linear", Quadratic: "scaled_linear"}
README = """# {title}

Exported by etsdm; `diffusers.DDIMPipeline.from_pretrained` and `DDPMPipeline.from_pretrained` load this folder.
`use_clipped_model_output=True` in the call of `DDIMPipeline` gives the images of `etsdm.sample` with sampler ddim.

{condition}
"""
PLAIN = "The network receives the true timestep."
MAPPED = """Condition map: `{condition_map}`. It is in the network: row t of `time_proj` is the sinusoid of f(t). Call it with the true t,
an integer, as these pipelines do; do not map timesteps a second time, and keep `time_proj` fixed in a training."""


def export_diffusers(denoiser: Denoiser, folder: Path) -> dict[str, Any]:
    """Writes the folder of a pipeline.

    Args:
        denoiser: with the backbone `adm-unet`, or `ldm-unet` without cross-attention.
        folder: an empty folder.

    Returns:
        The comparison of the tensors, see `etsdm.interop.comparison`.

    Raises:
        CheckpointError: a part has no counterpart in diffusers.
        IntegrityError: a written tensor differs.
    """
    spec = denoiser.spec
    try:
        unet, scheduler = _unet(spec), _scheduler(spec)
    except PartError as error:
        raise CheckpointError(f"to diffusers: {error}") from None
    assert isinstance(spec.backbone, ADMUNet)
    weights = to_diffusers(spec.backbone, denoiser.backbone.state_dict())
    if MAP_KEY in unet:
        weights[TIME_TABLE] = time_table(spec)
    for name in ("unet", "scheduler"):
        (folder / name).mkdir()
    _write_json(folder / "unet" / "config.json", unet)
    _write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    pipeline = {"_class_name": "DDPMPipeline", "unet": ["diffusers", "UNet2DModel"], "scheduler": ["diffusers", "DDPMScheduler"]}
    _write_json(folder / "model_index.json", pipeline)
    tensors = {key: value.detach().cpu().contiguous() for key, value in weights.items()}
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    save_file(tensors, file, {"format": "pt"})
    mapped = MAPPED.format(condition_map=json.dumps(unet[MAP_KEY])) if MAP_KEY in unet else PLAIN
    (folder / "README.md").write_text(README.format(title=f"{spec.backbone.type_name}, {spec.schedule.type_name}", condition=mapped))
    return compare_tensors(file, tensors, load_file(file))


def _unet(spec: DenoiserSpec) -> dict[str, Any]:
    if not isinstance(spec.backbone, ADMUNet):
        raise PartError("backbone", f"{spec.backbone.type_name!r} has no counterpart, adm-unet has; export to safetensors or torch-export")
    if spec.first_stage is not None or spec.super_resolution is not None:
        field = "first_stage" if spec.first_stage is not None else "super_resolution"
        raise PartError(field, "DDPMPipeline and DDIMPipeline generate images from noise alone; export to safetensors or torch-export")
    if spec.learns_variance:
        raise PartError("backbone.out_channels", "a learned variance is not known to DDIMPipeline; export to guided-diffusion instead")
    config = {"_class_name": "UNet2DModel", **config_of(spec.backbone), SPEC_KEY: spec.backbone.model_dump(mode="json")}
    if spec.condition_map == Identity() and spec.time_input == Timesteps():
        return config
    if not spec.schedule.is_discrete:
        raise PartError("schedule", f"{spec.schedule.type_name!r} is continuous; diffusers' schedulers have integer timesteps")
    table = {"time_embedding_type": "learned", "num_train_timesteps": int(spec.schedule.horizon)}
    return {**config, **table, MAP_KEY: spec.condition_map.model_dump(mode="json")}


def _scheduler(spec: DenoiserSpec) -> dict[str, Any]:
    """Configuration of `DDPMScheduler`; `DDIMScheduler` and others are made from it."""
    if spec.target.type_name not in TARGETS:
        raise PartError("target", f"{spec.target.type_name!r} is unknown to diffusers; eps, x0 and v are known")
    rescaled = isinstance(spec.schedule, ZeroTerminal)
    betas = _betas(spec.schedule.base if isinstance(spec.schedule, ZeroTerminal) else spec.schedule)
    return {
        "_class_name": "DDPMScheduler",
        "num_train_timesteps": int(spec.schedule.horizon),
        **betas,
        "rescale_betas_zero_snr": rescaled,
        "timestep_spacing": "trailing" if rescaled else "leading",
        "prediction_type": TARGETS[spec.target.type_name],
        "variance_type": "fixed_large",
        "clip_sample": spec.bounded,
        "clip_sample_range": 1.0,
        "set_alpha_to_one": True,
        "steps_offset": 0,
    }


def _betas(schedule: Schedule) -> dict[str, Any]:
    if isinstance(schedule, (Linear, Quadratic)) and schedule.grid == "linspace":
        return {"beta_schedule": BETAS[type(schedule)], "beta_start": schedule.beta_start, "beta_end": schedule.beta_end}
    if isinstance(schedule, Cosine) and (schedule.s, schedule.max_beta) == (0.008, 0.999):
        return {"beta_schedule": "squaredcos_cap_v2"}
    if not schedule.is_discrete:
        raise PartError("schedule", f"{schedule.type_name!r} is continuous; diffusers' schedulers have integer timesteps")
    betas = schedule.beta(schedule.domain[0] + _steps(schedule))
    return {"beta_schedule": "linear", "trained_betas": betas.tolist()}


def _steps(schedule: Schedule) -> Any:
    import torch

    return torch.arange(int(schedule.horizon), dtype=torch.float64)


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n")
