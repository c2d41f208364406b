"""`export_denoiser`: a denoiser as a file or folder of another program."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from etsdm.condition_maps import Identity
from etsdm.denoisers.denoiser import Denoiser
from etsdm.errors import CheckpointError, IntegrityError
from etsdm.registry import suggestion
from etsdm.storage.faults import storage_errors
from etsdm.storage.files import atomic_folder

__all__ = ["FORMATS", "ExportReport", "export_denoiser"]

# Module and function of each format.
FORMATS = {
    "guided-diffusion": ("original_layouts", "export_guided_diffusion"),
    "ldm": ("original_layouts", "export_ldm"),
    "edm": ("original_layouts", "export_edm"),
    "dit": ("original_layouts", "export_dit"),
    "diffusers": ("diffusers_folder", "export_diffusers"),
    "safetensors": ("single_file", "export_safetensors"),
    "onnx": ("graph", "export_onnx"),
    "torch-export": ("graph", "export_program"),
}
FOLDERS = ("diffusers",)
WITHOUT_MAP = ("guided-diffusion", "ldm", "edm", "dit")


class ExportReport(NamedTuple):
    """Report of an export.

    Fields: left_out, what the format does not hold, a sentence each; parity, the comparison of the written file with the denoiser.
    """

    left_out: list[str]
    parity: dict[str, Any]


@storage_errors()
def export_denoiser(denoiser: Denoiser, path: str | Path, to: str) -> ExportReport:
    """Exports a denoiser to another program.

    Args:
        denoiser: trained, loaded or built, not wrapped.
        path: a new file; for diffusers, a new folder.
        to: one of `FORMATS`.

    Returns:
        What is left out, and the comparison of what was written.

    Raises:
        CheckpointError: a part has no counterpart there.
        IntegrityError: the path exists, or what was written is another network; then nothing is left of it.
        LibraryError: a library is not installed that only this format needs.
    """
    if to not in FORMATS:
        raise CheckpointError(f"to: {to!r} is unknown; {suggestion(to, FORMATS, 'known')}")
    if not isinstance(denoiser, Denoiser):
        raise CheckpointError(f"found a {type(denoiser).__name__}, which has no weights of its own; give an etsdm.Denoiser")
    path = Path(path)
    if path.exists() or path.is_symlink():
        raise IntegrityError(f"{path}: exists and is not overwritten; remove it, or give another path")
    module, name = FORMATS[to]
    write: Callable[[Denoiser, Path], dict[str, Any]] = getattr(import_module(f"etsdm.interop.export.{module}"), name)
    if to in FOLDERS:
        with atomic_folder(path) as folder:
            parity = write(denoiser, folder)
    else:
        parity = write(denoiser, path)
    return ExportReport(_left_out(denoiser, to), parity)


def _left_out(denoiser: Denoiser, to: str) -> list[str]:
    spec = denoiser.spec
    found = []
    if to in WITHOUT_MAP and spec.condition_map != Identity():
        found.append(f"condition map {spec.condition_map.type_name!r}: {to} has no place for it; call the network at f(t)")
    if to == "dit" and spec.first_stage is not None:
        found.append("first stage: dit has it in a file of its own")
    if to in ("onnx", "torch-export") and spec.first_stage is not None:
        found.append("first stage: the graph is that of the network on latents")
    return found
