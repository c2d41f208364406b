"""A safetensors file of `etsdm export --to safetensors`, whose metadata hold the denoiser's specification."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from etsdm.backbones import External
from etsdm.errors import CheckpointError
from etsdm.interop.conversion import AS_STORED, AbsentNetwork, Converted, Options, check_keys, make_spec, merged
from etsdm.interop.export.single_file import FIRST_STAGE, SPEC_ENTRY
from etsdm.interop.origins.first_stage_keys import check_first_stage
from etsdm.interop.safe_load import read_contents, tensors_of

__all__ = ["read"]


def read(path: Path, options: Options) -> Converted:
    """Reads the file; `options.model` has precedence. Raises: CheckpointError: it has no specification, or its keys do not fit."""
    if options.first_stage is not None or options.weights == "current":
        raise CheckpointError("first_stage, weights: the file holds one denoiser, with its first stage; leave both out")
    contents = read_contents(path)
    tensors = tensors_of(path, contents.values)
    try:
        fields: Any = json.loads(contents.metadata.get(SPEC_ENTRY, "null"))
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise CheckpointError(
            f"{path}: its metadata have no {SPEC_ENTRY}; give a file of `etsdm export --to safetensors`, or name its origin"
        )
    fields = merged(fields, options.model)
    described = fields.get("backbone")
    if isinstance(described, dict) and described.get("type") == External.type_name:
        fields["backbone"] = _external(path, described)
    spec = make_spec(path, fields)
    stage = {key.removeprefix(FIRST_STAGE): value for key, value in tensors.items() if key.startswith(FIRST_STAGE)}
    network = {key: value for key, value in tensors.items() if not key.startswith(FIRST_STAGE)}
    if not isinstance(spec.backbone, External):
        check_keys(path, spec.backbone, network, f"backbone {spec.backbone.type_name!r}")
    if spec.first_stage is not None:
        check_first_stage(path, spec.first_stage, stage)
    elif stage:
        raise CheckpointError(f"{path}: has tensors of a first stage, which its denoiser has not; give the file of another")
    choices = {"architecture": "from the file"} | {f"model.{key}": "given" for key in options.model}
    return Converted(spec, network, {key: key for key in tensors}, contents.files, stage or None, choices=choices, weights_are=AS_STORED)


def _external(path: Path, record: dict[str, Any]) -> External:
    """The backbone of a record, without its network."""
    try:
        return External.from_record(record, AbsentNetwork())
    except ValueError as error:
        raise CheckpointError(f"{path}: {SPEC_ENTRY}: backbone: {error}; write the file again") from None
