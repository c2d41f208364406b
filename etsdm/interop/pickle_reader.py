"""Program that reads a pickled network of NVlabs/edm in a process of its own: pickle_reader.py SOURCE OUT.

EDM's pickles hold the source code of each class beside its state. Here every global of the pickle is looked up in a list of names, and
in the place of each stands a function or class of this file that keeps data alone, so neither that code nor any other runs; a name that is
not listed ends the reading. The tensors are written to OUT as safetensors; one line of JSON on stdout is the class and arguments of the
network, or {"error": ...}. The process has limits on memory, time and what it writes.
"""

from __future__ import annotations

import io
import json
import math
import struct
import sys
from contextlib import suppress
from pathlib import Path
from pickle import Unpickler
from typing import Any, NamedTuple

__all__ = ["main"]

MAX_DEPTH, MAX_TENSORS, MAX_VALUES = 32, 20_000, 10_000
SPARE = 2**30  # bytes of memory beside a multiple of the file's size
CPU_S = 600
TORCH = "torch.nn.modules.container."
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # at the start of a torch file of before 1.6
STORAGES = {
    "DoubleStorage": ("F64", 8),
    "FloatStorage": ("F32", 4),
    "HalfStorage": ("F16", 2),
    "BFloat16Storage": ("BF16", 2),
    "LongStorage": ("I64", 8),
    "IntStorage": ("I32", 4),
    "ByteStorage": ("U8", 1),
    "BoolStorage": ("BOOL", 1),
}
NUMBERS = {"f8": "d", "f4": "f", "i8": "q", "i4": "i", "b1": "?"}


class RefusedError(Exception):
    """Error of a file with forbidden or malformed contents."""


class _Dict(dict[Any, Any]):
    """Stands for `OrderedDict` and `EasyDict`."""

    def __setstate__(self, state: Any) -> None:
        pass


class _Module:
    """Stands for a module: its class's name and its state."""

    name = "container"

    def __new__(cls, *args: Any) -> _Module:
        made = super().__new__(cls)
        made.state = {}
        return made

    state: dict[Any, Any]

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, dict) else {}


class _Left:
    """Stands for an array, or a type, that is not used."""

    def __new__(cls, *args: Any) -> _Left:
        made = super().__new__(cls)
        made.args = args
        return made

    args: tuple[Any, ...]

    def __setstate__(self, state: Any) -> None:
        pass


def _persistent(meta: Any) -> _Module:
    if not isinstance(meta, dict) or meta.get("type") != "class" or not isinstance(meta.get("class_name"), str):
        raise RefusedError("a persistent object without the name of its class")
    made = _Module()
    made.name = meta["class_name"]
    made.__setstate__(meta.get("state"))
    return made


def _reconstructor(kind: Any, base: Any, state: Any) -> Any:
    if kind not in (_Dict, _Module, _Left):
        raise RefusedError("copyreg._reconstructor of something else than a module")
    return kind.__new__(kind)


class _Storage(NamedTuple):
    """Numbers of one or more tensors. Fields: dtype, in safetensors' names; width, bytes of a number; content."""

    dtype: str
    width: int
    content: bytes


class _Tensor(NamedTuple):
    """A tensor: a storage and its layout in it."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _StorageReader(Unpickler):
    """Unpickler of a storage in a torch file of before 1.6, the form that storages have inside other pickles."""

    def find_class(self, module: str, name: str) -> Any:
        if module != "torch" or name not in STORAGES:
            raise RefusedError(f"a storage in its pickle asks for {module}.{name}")
        return name

    def persistent_load(self, pid: Any) -> Any:
        return pid


def _storage(content: Any) -> _Storage:
    stream = io.BytesIO(content)
    magic, protocol, _, found, keys = (_StorageReader(stream).load() for _ in range(5))
    if (magic, protocol) != (MAGIC, PROTOCOL) or not isinstance(found, tuple) or found[0] != "storage" or len(keys) != 1:
        raise RefusedError("something else in the place of a storage")
    dtype, width = STORAGES[found[1]]
    (numbers,) = struct.unpack("<q", stream.read(8))
    held = stream.read()
    if numbers != found[4] or numbers * width != len(held):
        raise RefusedError("a storage of another length than it says")
    return _Storage(dtype, width, held)


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> _Tensor:
    size, stride = tuple(size), tuple(stride)
    if not isinstance(storage, _Storage) or len(size) != len(stride) or min((offset, *size, *stride)) < 0:
        raise RefusedError("a tensor without a storage")
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    numbers = len(storage.content) // storage.width
    if math.prod(size) > numbers or (math.prod(size) and last >= numbers):
        raise RefusedError("a tensor of more values than are stored")
    return _Tensor(storage, offset, size, stride)


def _parameter(data: Any, *rest: Any) -> Any:
    return data


def _items(*items: Any) -> list[Any]:
    return list(items[0]) if items else []


def _encode(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise RefusedError("_codecs.encode of something else than bytes")
    return text.encode("latin1")


def _scalar(dtype: Any, raw: Any = b"") -> float | None:
    code = dtype.args[0] if isinstance(dtype, _Left) and dtype.args else None
    if code not in NUMBERS or not isinstance(raw, bytes):
        return None
    return float(struct.unpack("<" + NUMBERS[code], raw)[0])


ALLOWED: dict[str, Any] = {
    "torch_utils.persistence._reconstruct_persistent_obj": _persistent,
    "collections.OrderedDict": _Dict,
    "dnnlib.util.EasyDict": _Dict,
    "copyreg._reconstructor": _reconstructor,
    "copy_reg._reconstructor": _reconstructor,
    "builtins.object": _Left,
    "builtins.set": _items,
    "__builtin__.object": _Left,
    "__builtin__.set": _items,
    "_codecs.encode": _encode,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.storage._load_from_bytes": _storage,
    "torch.Size": _items,
    "torch.device": _Left,
    "numpy.dtype": _Left,
    "numpy.ndarray": _Left,
    **{f"{TORCH}{name}": _Module for name in ("ModuleDict", "ModuleList", "Sequential")},
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray._reconstruct": _Left for core in ("core", "_core")},
}


class _Reader(Unpickler):
    """Unpickler of the listed names."""

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full not in ALLOWED:
            raise RefusedError(f"its pickle asks for {full}")
        return ALLOWED[full]

    def persistent_load(self, pid: Any) -> Any:
        raise RefusedError("its pickle refers to an object outside of it")


def _limit(size: int) -> None:
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (6 * size + SPARE,) * 2)
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 * size + 2**20,) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _tensors(module: _Module, prefix: str = "", depth: int = 0) -> dict[str, _Tensor]:
    """Parameters and buffers by the keys of a state dict."""
    if depth > MAX_DEPTH:
        raise RefusedError("modules inside each other without end")
    found = {}
    for kind in ("_parameters", "_buffers"):
        for name, value in module.state.get(kind, {}).items():
            if isinstance(value, _Tensor) and name not in module.state.get("_non_persistent_buffers_set", ()):
                found[f"{prefix}{name}"] = value
    for name, inner in module.state.get("_modules", {}).items():
        if isinstance(inner, _Module):
            found |= _tensors(inner, f"{prefix}{name}.", depth + 1)
        if len(found) > MAX_TENSORS:
            raise RefusedError(f"more than {MAX_TENSORS:,} tensors")
    return found


def _plain(value: Any, budget: list[int], depth: int = 0) -> Any:
    """JSON values of plain ones; None for others."""
    budget[0] -= 1
    if budget[0] < 0 or depth > MAX_DEPTH:
        raise RefusedError("arguments without end")
    if isinstance(value, dict):
        return {str(key)[:100]: _plain(inner, budget, depth + 1) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner, budget, depth + 1) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if isinstance(value, (bool, int, type(None))) else value[:100] if isinstance(value, str) else None


def _described(module: _Module) -> dict[str, Any]:
    attributes = {key: value for key, value in module.state.items() if isinstance(value, (bool, int, float, str))}
    arguments = module.state.get("_init_kwargs")
    return {
        "class": module.name[:100],
        "attributes": _plain(attributes, [MAX_VALUES]),
        "arguments": _plain(dict(arguments) if isinstance(arguments, dict) else {}, [MAX_VALUES]),
    }


def _write(tensors: dict[str, _Tensor], out: str) -> None:
    """Writes safetensors: the length of a header in JSON, the header, and the numbers in the order of their tensors."""
    header: dict[str, Any] = {}
    end = 0
    for key, tensor in tensors.items():
        start, end = end, end + math.prod(tensor.size) * tensor.storage.width
        header[key] = {"dtype": tensor.storage.dtype, "shape": tensor.size, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with open(out, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            file.write(_contiguous(tensor))


def _contiguous(tensor: _Tensor) -> bytes:
    """The numbers in row-major order."""
    width, content = tensor.storage.width, tensor.storage.content
    steps = [1]
    for length in tensor.size[:0:-1]:
        steps.insert(0, steps[0] * length)
    wanted = [(length, step) for length, step in zip(tensor.size, steps, strict=False) if length > 1]
    if wanted == [(length, step) for length, step in zip(tensor.size, tensor.stride, strict=True) if length > 1]:
        return content[tensor.offset * width : (tensor.offset + math.prod(tensor.size)) * width]
    places = [tensor.offset]
    for length, step in zip(tensor.size, tensor.stride, strict=True):
        places = [place + i * step for place in places for i in range(length)]
    return b"".join(content[place * width : (place + 1) * width] for place in places)


def _read(source: str, out: str) -> dict[str, Any]:
    with open(source, "rb") as file:
        held = _Reader(file).load()
    network = held.get("ema") if isinstance(held, dict) else held
    if not isinstance(network, _Module):
        raise RefusedError("no network under the key ema")
    inner = network.state.get("_modules", {}).get("model")
    if not isinstance(inner, _Module):
        raise RefusedError(f"no model in its {network.name[:100]}")
    _write(_tensors(network), out)
    keys = [str(key)[:100] for key in held][:100] if isinstance(held, dict) else []
    return {"precond": _described(network), "model": _described(inner), "keys": keys}


def main(source: str, out: str) -> int:
    """Reads SOURCE, writes OUT and one line of JSON. Returns: 0, or 3 for a file that is refused."""
    _limit(Path(source).stat().st_size)
    try:
        found = _read(source, out)
    except RefusedError as error:
        found = {"error": str(error)}
    except MemoryError:
        found = {"error": "more memory than a file of this size may take"}
    except Exception as error:  # a damaged pickle raises errors of any kind
        found = {"error": f"the pickle is damaged ({type(error).__name__}: {str(error)[:200]})"}
    sys.stdout.write(json.dumps(found) + "\n")
    return 3 if "error" in found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
