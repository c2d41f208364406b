"""Export to one safetensors file, with the denoiser's specification in its metadata.

keys        those of the backbone; of the first stage, with `first_stage.` before them
metadata    etsdm.denoiser, the specification as JSON; etsdm.condition_map, the map in it
"""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import save

from etsdm.checkpoints.format import spec_record
from etsdm.denoisers.denoiser import Denoiser
from etsdm.storage.files import open_atomically

__all__ = ["FIRST_STAGE", "MAP_ENTRY", "SPEC_ENTRY", "export_safetensors"]

SPEC_ENTRY = "etsdm.denoiser"
MAP_ENTRY = "etsdm.condition_map"
FIRST_STAGE = "first_stage."


def export_safetensors(denoiser: Denoiser, path: Path) -> None:
    """Writes the file."""
    tensors = dict(denoiser.backbone.state_dict())
    if denoiser.first_stage is not None:
        tensors |= {f"{FIRST_STAGE}{key}": value for key, value in denoiser.first_stage.state_dict().items()}
    record = spec_record(denoiser.spec)
    metadata = {"format": "pt", SPEC_ENTRY: json.dumps(record), MAP_ENTRY: json.dumps(record["condition_map"])}
    with open_atomically(path) as file:
        file.write(save({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, metadata))
