"""NVlabs/edm: a network snapshot, `network-snapshot-*.pkl`, or a published `edm-*.pkl`; or a file of `etsdm export --to edm`.

    preconditioning   schedule               target            time input
    EDMPrecond        edm                    edm               ln(sigma)/4
    VPPrecond         linear-continuous      eps               (M - 1) t
    VEPrecond         edm                    score, scaled     ln(sigma/2)
    iDDPMPrecond      cosine                 eps, variance     index

(Karras et al. 2022, table 1.) The pickle holds the moving average, and the arguments of the network.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from etsdm.backbones.edm_network import ORIGINAL_PREFIX
from etsdm.errors import CheckpointError, PartError
from etsdm.interop.conversion import Converted, Options, check_keys, make_spec, merged
from etsdm.interop.pickled_network import PickledModule, PickledNetwork, read_pickled_network
from etsdm.interop.safe_load import ZIP, describe_file, read_contents, tensors_of
from etsdm.interop.schedule_search import schedule_of

__all__ = ["read"]

BACKBONES = {"SongUNet": "song-unet", "DhariwalUNet": "dhariwal-unet"}
RENAMED = {"img_resolution": "image_size", "label_dim": "num_classes"}
OF_TRAINING = {"label_dropout"}
PICKLE = b"\x80"  # of protocol 2 and later


def read(path: Path, options: Options) -> Converted:
    """Reads a network snapshot.

    Args:
        path: a pickle.
        options: `model`, in place of what is found.

    Raises:
        CheckpointError: the network is of another kind.
        IntegrityError: the file is damaged or asks for a name that is not allowed.
    """
    if options.first_stage is not None:
        raise CheckpointError("first_stage: EDM's networks are of images; leave it out")
    if options.weights == "current":
        raise CheckpointError(f"{path}: holds the moving average alone; give weights ema")
    start = describe_file(path)
    if not start.startswith((ZIP, PICKLE)):
        raise CheckpointError(f"{path}: is neither a pickle nor a torch file; give a snapshot of NVlabs/edm, network-snapshot-*.pkl")
    found = _exported(path) if start.startswith(ZIP) else read_pickled_network(path)
    if found.model.name not in BACKBONES:
        message = f"its network is a {found.model.name}, and SongUNet and DhariwalUNet are known"
        raise CheckpointError(f"{path}: {message}; wrap the network instead, by etsdm.wrap")
    arguments = {RENAMED.get(key, key): value for key, value in found.model.arguments.items() if key not in OF_TRAINING}
    if not arguments.get("num_classes"):
        arguments.pop("num_classes", None)
    fields = merged({"backbone": {"type": BACKBONES[found.model.name], **arguments}, **_parts(path, found)}, options.model)
    spec = make_spec(path, fields)
    tensors = {key.removeprefix(ORIGINAL_PREFIX): value for key, value in found.tensors.items() if key.startswith(ORIGINAL_PREFIX)}
    ignored = {key: "beside the network" for key in found.keys if key != "ema"}
    ignored |= {f"ema.{key}": "table of the preconditioning" for key in found.tensors if not key.startswith(ORIGINAL_PREFIX)}
    check_keys(path, spec.backbone, tensors, f"backbone {spec.backbone.type_name!r}")
    choices = {"architecture": f"the arguments of {found.model.name}", "schedule": f"that of {found.precond.name}"}
    choices |= {f"model.{key}": "given" for key in options.model}
    return Converted(spec, tensors, {key: f"ema.{ORIGINAL_PREFIX}{key}" for key in tensors}, found.files, None, ignored, choices)


def _exported(path: Path) -> PickledNetwork:
    """A torch file of `etsdm export --to edm`, with the network's arguments beside its state dict."""
    contents = read_contents(path)
    network = contents.values.get("network")
    if not isinstance(network, dict) or "ema" not in contents.values:
        raise CheckpointError(f"{path}: has no network and ema; give a snapshot of NVlabs/edm, or a file of `etsdm export --to edm`")
    arguments = {key: value for key, value in network.items() if key not in ("class_name", "model_type", "sigma_data", "img_channels")}
    arguments |= dict.fromkeys(("in_channels", "out_channels"), network.get("img_channels"))
    precond = PickledModule(str(network.get("class_name")).rpartition(".")[2], network, {})
    model = PickledModule(str(network.get("model_type")), {}, arguments)
    return PickledNetwork(precond, model, tensors_of(path, contents.values["ema"], "ema"), ["ema", "network"], contents.files)


def _parts(path: Path, found: PickledNetwork) -> dict[str, Any]:
    """Schedule, target and time input of a preconditioning."""
    kind = found.precond
    if kind.name == "EDMPrecond":
        return {"schedule": "edm", "target": {"type": "edm", "sigma_data": _number(path, kind, "sigma_data")}}
    if kind.name == "VPPrecond":
        low, rise = _number(path, kind, "beta_min"), _number(path, kind, "beta_d")
        schedule = {"type": "linear-continuous", "beta_min": low, "beta_max": low + rise}
        return {"schedule": schedule, "target": "eps", "time_input": {"type": "scaled", "factor": _number(path, kind, "M") - 1}}
    if kind.name == "VEPrecond":
        schedule = {"type": "edm", "sigma_max": _number(path, kind, "sigma_max")}
        time_input = {"type": "log-sigma", "factor": 1.0, "unit": 2.0}
        return {"schedule": schedule, "target": {"type": "score", "scaled": True}, "time_input": time_input}
    if kind.name == "iDDPMPrecond" and "u" in found.tensors:
        # u holds sigma/alpha at 1000, 999, ..., 0 of DDPM's indices, and 0.
        try:
            return {"schedule": schedule_of(1 / (1 + found.tensors["u"][:-1].double().square().flip(0))), "target": "eps"}
        except PartError as error:
            raise CheckpointError(f"{path}: ema.u: {error}") from None
    known = "EDMPrecond, VPPrecond, VEPrecond and iDDPMPrecond are known"
    raise CheckpointError(f"{path}: its preconditioning is a {kind.name}, and {known}; wrap the network instead, by etsdm.wrap")


def _number(path: Path, kind: PickledModule, name: str) -> float:
    value = kind.attributes.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise CheckpointError(f"{path}: {kind.name}.{name} is {value!r}, and a number is expected; give another snapshot")
    return float(value)
