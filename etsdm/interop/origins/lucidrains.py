"""lucidrains/denoising-diffusion-pytorch: a checkpoint of its `Trainer`, `model-10.pt`.

    model                      state dict of GaussianDiffusion: the network as model.*, and tables of the schedule
    ema                        the moving average: the same as ema_model.*, the current weights as online_model.*, counters

etsdm has no copy of its `Unet`, so the backbone is an external one: `etsdm.load(folder, backbone=Unet(...))` puts the weights into it.
What the network predicts is not in the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from etsdm.backbones import External
from etsdm.errors import CheckpointError, PartError
from etsdm.interop.conversion import AbsentNetwork, Converted, Options, make_spec, merged
from etsdm.interop.safe_load import read_contents, tensors_of
from etsdm.interop.schedule_search import schedule_of
from etsdm.registry import cut

__all__ = ["read"]

KEYS = {"step", "model", "opt", "ema", "scaler", "version"}
TABLES = ("betas", "alphas_cumprod", "sqrt_", "log_one_minus_", "posterior_", "loss_weight", "p2_loss_weight")
COUNTERS = ("initted", "step")
FIRST, LAST = "init_conv.weight", "final_conv.weight"


def read(path: Path, options: Options) -> Converted:
    """Reads a checkpoint of the trainer.

    Args:
        path: a torch file.
        options: `model` with `target`, and `backbone.image_size`.

    Raises:
        CheckpointError: the keys are not those of the trainer, or a field has to be given.
        IntegrityError: the file is damaged or holds more than tensors.
    """
    contents = read_contents(path)
    if odd := sorted(contents.values.keys() - KEYS) or sorted({"model", "ema"} - contents.values.keys()):
        raise CheckpointError(
            f"{path}: {cut(odd[0])!r} is missing or not expected; give a checkpoint of denoising-diffusion-pytorch's Trainer"
        )
    part, prefix = ("ema", "ema_model.") if options.weights == "ema" else ("model", "")
    tensors = tensors_of(path, contents.values[part], part)
    ignored = {key: "state of the training" for key in contents.values if key != part}
    network, tables = _split(path, tensors, part, prefix, ignored)
    size = _image_size(path, options)
    if options.first_stage is not None:
        raise CheckpointError("first_stage: the trainer's networks are of images; leave it out")
    in_channels, out_channels = _channels(path, network)
    backbone = External(AbsentNetwork(), shape=(in_channels, size, size), out_channels=out_channels)
    fields: dict[str, Any] = {"backbone": backbone}
    if "schedule" not in options.model:
        try:
            fields["schedule"] = schedule_of(tables["alphas_cumprod"])
        except (KeyError, PartError) as error:
            raise CheckpointError(f"{path}: {part}: alphas_cumprod: {error}; give schedule") from None
    fields = merged(fields, {key: value for key, value in options.model.items() if key != "backbone"})
    if "target" not in fields:
        raise CheckpointError(f"{path}: target: not in the file; give that of its objective: target=eps, target=x0 or target=v")
    choices = {"architecture": "external: give the Unet as backbone= to etsdm.load", "schedule": "alphas_cumprod"}
    choices |= {f"model.{key}": "given" for key in options.model}
    used = {f"network.{key}": f"{part}.{prefix}model.{key}" for key in network}
    state = {f"network.{key}": value for key, value in network.items()}
    return Converted(make_spec(path, fields), state, used, contents.files, None, ignored, choices, options.weights)


def _split(
    path: Path, tensors: dict[str, Tensor], part: str, prefix: str, ignored: dict[str, str]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The network and the tables; other keys go into `ignored`."""
    network, tables = {}, {}
    for key, value in tensors.items():
        inner = key.removeprefix(prefix)
        if inner.startswith("model.") and key.startswith(prefix):
            network[inner.removeprefix("model.")] = value
        elif key.startswith(prefix) and inner.startswith(TABLES):
            tables[inner] = value
            ignored[f"{part}.{key}"] = "table of the schedule, or of the loss"
        elif part == "ema" and (key in COUNTERS or key.startswith("online_model.")):
            ignored[f"{part}.{key}"] = "counter" if key in COUNTERS else "current weight; the moving average is used"
        else:
            raise CheckpointError(f"{path}: {part}: key {cut(key)!r} is not of GaussianDiffusion; give a checkpoint of its Trainer")
    return network, tables


def _channels(path: Path, network: dict[str, Tensor]) -> tuple[int, int]:
    if FIRST not in network or LAST not in network or network[FIRST].ndim != 4 or network[LAST].ndim != 4:
        raise CheckpointError(f"{path}: is no Unet of images: {FIRST} or {LAST} is missing; give a checkpoint of one")
    found, predicted = network[FIRST].shape[1], network[LAST].shape[0]
    if predicted not in (found, 2 * found):
        message = f"its network takes {found} channels and predicts {predicted}, as with self_condition"
        raise CheckpointError(f"{path}: {message}; it has no counterpart, wrap the network instead, by etsdm.wrap")
    return found, predicted


def _image_size(path: Path, options: Options) -> int:
    given = options.model.get("backbone", {})
    if not isinstance(given, dict) or given.keys() != {"image_size"} or not isinstance(given["image_size"], int):
        raise CheckpointError(f"{path}: backbone.image_size: not in the file; give it, and no other field: backbone.image_size=32")
    return given["image_size"]
