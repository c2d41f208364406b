"""Export to one safetensors file, with the denoiser's specification in its metadata.

keys        those of the backbone; of the first stage, with `first_stage.` before them
metadata    etsdm.denoiser, the specification as JSON; etsdm.condition_map, the map in it
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from etsdm.checkpoints.format import spec_record
from etsdm.denoisers.denoiser import Denoiser, DenoiserSpec
from etsdm.interop.comparison import compare_tensors
from etsdm.interop.metadata import condition_map_metadata
from etsdm.storage.files import atomic_files

__all__ = ["FIRST_STAGE", "SPEC_ENTRY", "entries_of", "export_safetensors"]

SPEC_ENTRY = "etsdm.denoiser"
FIRST_STAGE = "first_stage."


def entries_of(spec: DenoiserSpec) -> dict[str, str]:
    """Metadata of a file: the specification and its condition map, as JSON."""
    return {SPEC_ENTRY: json.dumps(spec_record(spec)), **condition_map_metadata(spec.condition_map)}


def export_safetensors(denoiser: Denoiser, path: Path) -> dict[str, Any]:
    """Writes the file, and returns the comparison of its tensors. Raises: IntegrityError: one differs."""
    tensors = dict(denoiser.backbone.state_dict())
    if denoiser.first_stage is not None:
        tensors |= {f"{FIRST_STAGE}{key}": value for key, value in denoiser.first_stage.state_dict().items()}
    metadata = {"format": "pt", **entries_of(denoiser.spec)}
    with atomic_files(path) as file:
        save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, file, metadata)
        return compare_tensors(path, tensors, load_file(file))
