"""diffusers: the folder of a pipeline with a `UNet2DModel`, such as DDPM's or DDIM's, or the folder of the network alone.

    model_index.json                       names of the parts
    unet/config.json, *.safetensors        the network; weights may be in shards
    scheduler/scheduler_config.json        schedule, by comparing alpha_bar, and target

The network of the converted folder is compared with diffusers' own. A UNet without counterpart is refused; `etsdm.wrap` takes it as it is.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from etsdm.backbones import ADMUNet
from etsdm.denoisers.denoiser import DenoiserSpec
from etsdm.errors import CheckpointError, PartError
from etsdm.interop.conversion import AS_STORED, Converted, Options, Source, check_horizon, check_keys, make_spec, merged, required
from etsdm.interop.diffusers_unet import SPEC_KEY, TIME_TABLE, config_of, fields_of, from_diffusers, time_table
from etsdm.interop.safe_load import Contents, read_contents, read_json, tensors_of
from etsdm.interop.schedule_search import schedule_of
from etsdm.interop.stored_map import ARGUMENT_KEY, MAP_KEY, parse_map
from etsdm.registry import cut, quoted
from etsdm.registry.optional import optional_library
from etsdm.storage.files import sha256_of

__all__ = ["read"]

WRAP = "it can be wrapped as it is, by etsdm.wrap"
STEM = "diffusion_pytorch_model"
WEIGHTS = [f"{STEM}.safetensors", f"{STEM}.safetensors.index.json", f"{STEM}.bin", f"{STEM}.bin.index.json"]
TARGETS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
# Schedulers of an alpha_bar from betas, whatever they do with it.
SCHEDULERS = (
    *("DDPMScheduler", "DDIMScheduler", "PNDMScheduler", "UniPCMultistepScheduler", "DEISMultistepScheduler", "HeunDiscreteScheduler"),
    *("DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler"),
    *("LMSDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "DDIMInverseScheduler"),
)
MAX_TIMESTEPS = 1_000_000


def read(path: Path, options: Options) -> Converted:
    """Reads the folder of a pipeline, or of a network.

    Args:
        path: the folder.
        options: `model` for what a network alone does not have.

    Raises:
        CheckpointError: the network or the scheduler has no counterpart, or a field has to be given.
        IntegrityError: a file is damaged or holds more than tensors.
        LibraryError: diffusers is not installed.
    """
    if not path.is_dir():
        raise CheckpointError(f"{path}: is no folder; give that of a pipeline, with unet and scheduler in it")
    if options.first_stage is not None or options.weights == "current":
        raise CheckpointError("first_stage, weights: a pipeline of diffusers holds one network of images; leave both out")
    library = optional_library("diffusers", "a conversion from diffusers", "'etsdm[hf]'")
    alone = not (path / "unet").is_dir()
    folder = path if alone else path / "unet"
    _check_parts(path)
    config_file = folder / "config.json"
    config = _config(config_file, library.UNet2DModel)
    contents = _weights(folder)
    theirs = dict(tensors_of(folder, contents.values))
    table = theirs.pop(TIME_TABLE, None) if config["time_embedding_type"] == "learned" else None
    backbone = _backbone(config_file, config, table is not None)
    fields: dict[str, Any] = {"backbone": backbone, **({} if alone else _scheduler(path / "scheduler", library))}
    stored = None if config.get(MAP_KEY) is None else parse_map(config[MAP_KEY], config.get(ARGUMENT_KEY), str(config_file))
    if stored is not None:
        fields["condition_map"] = stored.condition_map
    choices = {"architecture": "from config.json", "schedule": "alpha_bar of the scheduler"}
    fields = merged(fields, options.model)
    required(path, fields, {"schedule": "linear"})
    spec = make_spec(path, fields)
    if not isinstance(spec.backbone, ADMUNet):
        raise CheckpointError(f"{path}: model.backbone: {spec.backbone.type_name!r} is no network of UNet2DModel; leave it out")
    if stored is not None and stored.argument and "condition_map" not in options.model:
        check_horizon(config_file, stored, spec)
    state, used = from_diffusers(spec.backbone, theirs)
    check_keys(folder, spec.backbone, state, f"backbone {spec.backbone.type_name!r}")
    ignored = {} if table is None else {TIME_TABLE: _checked_table(folder, table, spec)}
    choices |= {f"model.{key}": "given" for key in options.model}
    original = _original(library, config, theirs)
    configs = [config_file, *([] if alone else [path / "scheduler" / "scheduler_config.json"])]
    files = contents.files | {str(file.relative_to(path)): sha256_of(file) for file in configs}
    return Converted(spec, state, used, files, None, ignored, choices, AS_STORED, original)


def _check_parts(path: Path) -> None:
    index = path / "model_index.json"
    if not index.exists():
        return
    parts = read_json(index)
    if not isinstance(parts, dict):
        raise CheckpointError(f"{index}: is no mapping; copy the folder again")
    if odd := sorted(key for key, value in parts.items() if not key.startswith("_") and key not in ("unet", "scheduler") and value):
        raise CheckpointError(f"{index}: {odd[0]}: a pipeline of more than unet and scheduler has no counterpart; {WRAP}")


def _config(file: Path, kind: Any) -> dict[str, Any]:
    """The configuration with the defaults of its class."""
    stored = read_json(file)
    if not isinstance(stored, dict):
        raise CheckpointError(f"{file}: is no mapping; copy the folder again")
    if stored.get("_class_name") != kind.__name__:
        found = quoted(stored.get("_class_name"))
        raise CheckpointError(f"{file}: _class_name: {found} has no counterpart, {kind.__name__} has; {WRAP}")
    known = {key: parameter.default for key, parameter in inspect.signature(kind.__init__).parameters.items() if key != "self"}
    extra = {MAP_KEY, ARGUMENT_KEY, SPEC_KEY}
    if odd := sorted(key for key in stored if key not in known and key not in extra and not key.startswith("_")):
        raise CheckpointError(f"{file}: {cut(odd[0])!r} is no key of {kind.__name__}; remove it, or update diffusers")
    return {**known, **stored}


def _weights(folder: Path) -> Contents:
    for name in WEIGHTS:
        if (folder / name).exists():
            return read_contents(folder / name)
    raise CheckpointError(f"{folder}: has no weights; {WEIGHTS[0]}, {WEIGHTS[2]} or the index of their shards is expected")


def _backbone(file: Path, config: Mapping[str, Any], has_table: bool) -> dict[str, Any]:
    kind = config["time_embedding_type"]
    if kind == "learned" and config.get(MAP_KEY) is not None and not has_table:
        raise CheckpointError(f"{file}: time_embedding_type: 'learned', and {TIME_TABLE} is missing in the weights; copy the folder again")
    if kind != "positional" and not (has_table and config.get(MAP_KEY) is not None):
        raise CheckpointError(f"{file}: time_embedding_type: {kind!r} has no counterpart, 'positional' has; {WRAP}")
    try:
        found: dict[str, Any] = {"type": "adm-unet", **fields_of(config)}
        if config.get(SPEC_KEY) is None:
            return found
        stored = DenoiserSpec.model_validate({"schedule": "linear", "backbone": config[SPEC_KEY]}).backbone
        if isinstance(stored, ADMUNet) and all(_same(config[key], value) for key, value in config_of(stored).items()):
            return stored.model_dump(mode="json")
    except PartError as error:
        raise CheckpointError(f"{file}: {error}; {WRAP}") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(
            f"{file}: is no configuration of UNet2DModel ({cut(str(error).splitlines()[0], 120)}); copy it again"
        ) from None
    raise CheckpointError(f"{file}: {SPEC_KEY}: is another network than the other keys describe; remove the key")


def _same(one: Any, other: Any) -> bool:
    return list(one) == list(other) if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)) else bool(one == other)


def _scheduler(folder: Path, library: Any) -> dict[str, Any]:
    file = folder / "scheduler_config.json"
    config = read_json(file)
    name = config.get("_class_name") if isinstance(config, dict) else None
    if name not in SCHEDULERS:
        raise CheckpointError(f"{file}: _class_name: {quoted(name)} is no scheduler of an alpha_bar from betas; {WRAP}")
    steps = config.get("num_train_timesteps", 1000)
    if isinstance(steps, bool) or not isinstance(steps, int) or not 1 < steps <= MAX_TIMESTEPS:
        raise CheckpointError(f"{file}: num_train_timesteps: {quoted(steps)} is no number of timesteps; copy the folder again")
    target = config.get("prediction_type", "epsilon")
    if target not in TARGETS:
        raise CheckpointError(f"{file}: prediction_type: {quoted(target)} is unknown; {', '.join(TARGETS)} are known")
    try:
        schedule = schedule_of(getattr(library, name).from_config(config).alphas_cumprod)
    except PartError as error:
        raise CheckpointError(f"{file}: {error}; {WRAP}") from None
    except Exception as error:  # diffusers raises errors of any kind for values that it does not know
        raise CheckpointError(f"{file}: diffusers cannot make it ({cut(str(error), 160)}); copy the folder again") from None
    return {"schedule": schedule, "target": TARGETS[target]}


def _checked_table(folder: Path, table: Tensor, spec: DenoiserSpec) -> str:
    expected = time_table(spec).to(table.dtype).float()
    if table.shape != expected.shape or not torch.allclose(table.float(), expected, atol=1e-5, rtol=0):
        raise CheckpointError(f"{folder}: {TIME_TABLE}: was trained, or belongs to another condition map; {WRAP}")
    return "the sinusoids of f(t), computed from the condition map"


def _original(library: Any, config: Mapping[str, Any], theirs: Mapping[str, Tensor]) -> Source:
    """diffusers' own network, with sinusoids in place of a table, as both take the mapped time."""
    names = inspect.signature(library.UNet2DModel.__init__).parameters
    plain = {key: value for key, value in config.items() if key in names and key != "self"}
    network = library.UNet2DModel(**{**plain, "time_embedding_type": "positional"}).eval().requires_grad_(False)
    network.load_state_dict({key: value.float() for key, value in theirs.items()})

    def call(x: Tensor, time: Tensor, cond: dict[str, Tensor]) -> Tensor:
        out: Tensor = network(x, time, class_labels=cond.get("y")).sample
        return out

    return call
