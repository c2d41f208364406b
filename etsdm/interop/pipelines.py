"""diffusers' pipelines, in memory, in a folder or on the Hugging Face Hub: their network, scheduler and autoencoder.

A folder is read part by part, by the classes of the installed diffusers that `adapters` knows: no code and no pickle of the folder is
run, and text encoders and other parts stay unread.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from etsdm.errors import CheckpointError, PartError
from etsdm.interop.adapters import DIFFUSERS
from etsdm.registry.frozen import quoted
from etsdm.storage.faults import storage_errors
from etsdm.storage.regular import read_regular

__all__ = ["PipelineParts", "is_pipeline", "parts_of_pipeline", "read_pipeline"]

NETWORKS, AUTOENCODERS = ("unet", "transformer"), ("vae", "vqvae")
# Pipelines whose network receives further images beside the noisy one.
MORE_IMAGES = ("SuperResolution", "Upscale", "Inpaint", "Pix2Pix", "Depth2Img", "ControlNet")
INDEX, CONFIG = "model_index.json", "config.json"
MAX_JSON = 2**24  # bytes
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
HUB_FILES = [INDEX, *(f"{part}/*{kind}" for part in (*NETWORKS, *AUTOENCODERS, "scheduler") for kind in (".json", ".safetensors"))]
VARIANTS = ["*.fp16.*", "*.bf16.*", "*.non_ema.*"]


class PipelineParts(NamedTuple):
    """Network, scheduler and autoencoder; scheduler and autoencoder are None where there is none."""

    network: Any
    scheduler: Any | None = None
    autoencoder: Any | None = None


def is_pipeline(model: Any) -> bool:
    """Whether an object is a pipeline of diffusers; imports nothing."""
    return any(kind.__name__ == "DiffusionPipeline" and kind.__module__.startswith("diffusers.") for kind in type(model).__mro__)


def parts_of_pipeline(pipeline: Any) -> PipelineParts:
    """The parts of a pipeline in memory.

    Raises:
        PartError: it has no network of a known class, or one that receives further images.
    """
    name, parts = type(pipeline).__name__, pipeline.components
    _refuse_more_images(name)
    network = next((parts[each] for each in NETWORKS if parts.get(each) is not None), None)
    if network is None or parts.get("scheduler") is None:
        raise PartError("model", f"{name} has no {' or '.join(NETWORKS)} with a scheduler; give its network, with schedule= and target=")
    return PipelineParts(network, parts["scheduler"], next((parts[each] for each in AUTOENCODERS if parts.get(each) is not None), None))


@storage_errors()
def read_pipeline(path: str | Path) -> PipelineParts:
    """Reads the parts of a pipeline from a folder, or by its id from the Hugging Face Hub or its cache.

    Args:
        path: a folder from `save_pretrained` of a pipeline or of one network, or an id, `owner/name`.

    Raises:
        CheckpointError: it is neither, has weights in no safetensors file, asks for code of its own, or is of an unknown class.
        StorageError: a file cannot be read.
    """
    folder = Path(path)
    if not folder.is_dir():
        if folder.exists() or not HUB_ID.fullmatch(str(path)):
            raise CheckpointError(f"{path}: is no folder and no id on the Hub; give a folder of diffusers, or owner/name")
        folder = _from_hub(str(path))
    if not (folder / INDEX).exists():
        if not (folder / CONFIG).exists():
            raise CheckpointError(f"{folder}: holds neither {INDEX} nor {CONFIG}; give a folder written by save_pretrained of diffusers")
        return PipelineParts(_read_network(folder))
    index = _json(folder / INDEX)
    name = index.get("_class_name")
    if not isinstance(name, str):
        raise CheckpointError(
            f"{folder / INDEX}: _class_name {quoted(name)} is a pipeline with code of its own; wrap its network in Python"
        )
    _refuse_more_images(name)
    classes = {part: _class_in(index, part, folder / INDEX) for part in (*NETWORKS, *AUTOENCODERS, "scheduler")}
    network = next((part for part in NETWORKS if classes[part]), None)
    if network is None or classes["scheduler"] is None:
        raise CheckpointError(f"{folder / INDEX}: {name} has no {' or '.join(NETWORKS)} with a scheduler; wrap its network in Python")
    autoencoder = next((part for part in AUTOENCODERS if classes[part]), None)
    return PipelineParts(
        _read_network(folder / network),
        _read_scheduler(folder / "scheduler", str(classes["scheduler"])),
        None if autoencoder is None else _read_weights(folder / autoencoder, ("AutoencoderKL", "VQModel")),
    )


def _refuse_more_images(name: str) -> None:
    if any(word in name for word in MORE_IMAGES):
        message = f"the network of {name} receives further images beside the noisy one"
        raise PartError("model", f"{message}; give a function f(x, t) that adds them, with schedule=, target= and shape=")


def _class_in(index: Mapping[str, Any], part: str, file: Path) -> str | None:
    entry = index.get(part)
    if entry is None or entry == [None, None]:
        return None
    if not (isinstance(entry, list) and len(entry) == 2 and all(isinstance(each, str) for each in entry)) or entry[0] != "diffusers":
        raise CheckpointError(f"{file}: {part} is {quoted(entry)}, no class of diffusers; wrap the pipeline or its network in Python")
    return str(entry[1])


def _read_network(folder: Path) -> Any:
    return _read_weights(folder, DIFFUSERS)


def _read_weights(folder: Path, known: tuple[str, ...]) -> Any:
    """A model of diffusers with weights from safetensors, in eval mode."""
    config = _json(folder / CONFIG)
    name = config.get("_class_name")
    if name not in known:
        raise CheckpointError(f"{folder / CONFIG}: _class_name {quoted(name)} is none of {', '.join(known)}; wrap the network in Python")
    if "quantization_config" in config:
        raise CheckpointError(f"{folder / CONFIG}: has a quantization_config; load the network in Python, and wrap it")
    files = sorted(file.name for file in folder.iterdir())
    if not any(file.endswith(".safetensors") for file in files):
        held = next((file for file in files if file.endswith((".bin", ".ckpt", ".pt", ".pth"))), None)
        found = f"holds {held}, a pickle, which may run any code," if held else "holds"
        raise CheckpointError(f"{folder}: {found} and no safetensors file; save it with safe_serialization=True of diffusers")
    for file in files:
        if file.endswith(".safetensors.index.json"):
            for shard in _json(folder / file).get("weight_map", {}).values():
                if not isinstance(shard, str) or not shard.endswith(".safetensors") or Path(shard).name != shard:
                    raise CheckpointError(f"{folder / file}: {quoted(shard)} is no safetensors file of the folder; copy the model again")
    kind = _of_diffusers(str(name), folder)
    options = {"use_safetensors": True, "local_files_only": True, "low_cpu_mem_usage": False, "output_loading_info": True}
    network, keys = _loaded(lambda: kind.from_pretrained(folder, **options), folder)
    # diffusers leaves weights that it does not find at random values, and warns.
    for problem in ("missing", "unexpected"):
        if odd := sorted(keys.get(f"{problem}_keys") or ()):
            message = f"{len(odd)} keys of {name} {problem} in its weights, {quoted(odd[0])} among them"
            raise CheckpointError(f"{folder}: {message}; copy the model again, or give the weights of this config")
    return network.eval()


def _read_scheduler(folder: Path, name: str) -> Any:
    config = _json(folder / "scheduler_config.json")
    kind = _of_diffusers(name, folder)
    if not name.endswith("Scheduler") or not hasattr(kind, "from_config"):
        raise CheckpointError(f"{folder}: {quoted(name)} is no scheduler of diffusers; give schedule= and target=, with the network alone")
    return _loaded(lambda: kind.from_config(config), folder)


def _of_diffusers(name: str, folder: Path) -> Any:
    try:
        import diffusers
    except ImportError:
        raise CheckpointError(f"{folder}: needs diffusers; install it, as by pip install 'etsdm[hf]'") from None
    kind = getattr(diffusers, name, None)
    if not isinstance(kind, type):
        raise CheckpointError(f"{folder}: {quoted(name)} is no class of diffusers {diffusers.__version__}; install another version")
    return kind


def _loaded(load: Callable[[], Any], folder: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            return load()
    except Exception as error:  # diffusers raises whatever its parts do; nothing here is a mistake of the program
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{folder}: diffusers cannot load it: {reason[:200]}; save it again") from error


def _json(file: Path) -> dict[str, Any]:
    try:
        content = read_regular(file, MAX_JSON)
    except FileNotFoundError:
        raise CheckpointError(f"{file}: is missing; give a folder written by save_pretrained of diffusers") from None
    try:
        found = json.loads(content or b"")
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise CheckpointError(f"{file}: is no JSON object; copy the model again")
    return found


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=HUB_FILES, ignore_patterns=VARIANTS))
    except Exception as error:  # the errors of huggingface_hub and of its HTTP client have no base in common
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        message = f"{name}: is no folder here, and cannot be read from the Hub ({type(error).__name__}: {reason[:160]})"
        raise CheckpointError(f"{message}; give a folder, or check the id and the connection") from None
