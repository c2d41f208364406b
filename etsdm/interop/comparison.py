"""Comparison of a network with its conversion or export: of the tensors, bit by bit, and of the outputs for the same input."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from etsdm.errors import IntegrityError

__all__ = ["compare_outputs", "compare_tensors"]

LARGEST_DIFFERENCE = 1e-4  # over the root mean square of the outputs


def compare_outputs(path: Path, ours: Tensor, theirs: Tensor, whose: str, mend: str) -> dict[str, float]:
    """Compares two outputs for the same input.

    Args:
        path: of the file, for the message.
        ours, theirs: the outputs, same shape.
        whose: the network of `theirs` in the message.
        mend: the end of the message.

    Returns:
        `largest_difference` of the outputs, and `output_rms`, the root mean square of ours.

    Raises:
        IntegrityError: they differ by more than float32 arithmetic explains.
    """
    rms, difference = ours.square().mean().sqrt().item(), (theirs - ours).abs().max().item()
    if not difference <= LARGEST_DIFFERENCE * max(rms, 1e-12):
        raise IntegrityError(f"{path}: outputs of {whose} differ by {difference:.3g}, at a root mean square of {rms:.3g}; {mend}")
    return {"largest_difference": difference, "output_rms": rms}


def compare_tensors(path: Path, ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> dict[str, Any]:
    """Compares each of their tensors with ours, bit by bit in our dtype.

    Args:
        path: of the file, for the message.
        ours, theirs: tensors by key.

    Returns:
        `tensors`, their number, and `tensors_identical`, true.

    Raises:
        IntegrityError: one is missing, or has other values.
    """
    if odd := sorted(ours.keys() ^ theirs.keys()):
        raise IntegrityError(f"{path}: tensor {odd[0]!r} is missing or not expected; check the disk, and try again")
    for key, value in theirs.items():
        if not torch.equal(ours[key].cpu(), value.to("cpu", ours[key].dtype)):
            raise IntegrityError(f"{path}: tensor {key!r} has other values than in its source; check the disk, and try again")
    return {"tensors": len(theirs), "tensors_identical": True}
