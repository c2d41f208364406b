"""Export of the network's graph, condition map included: f(x, t) -> output at the true t.

Inputs are x, (B, C, H, W), t, (B,), float32, in the schedule's unit, and labels y, (B,), where there are classes. B is free. The output is
that of `Denoiser.output`: scaling of x, condition map and time input are in the graph.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from etsdm.denoisers.denoiser import Denoiser
from etsdm.errors import CheckpointError
from etsdm.registry.optional import optional_library
from etsdm.storage.files import open_atomically

__all__ = ["ConditionedNetwork", "export_onnx", "export_program"]

BATCH = 2  # of the inputs that are traced


class ConditionedNetwork(nn.Module):
    """The output of a denoiser's network at true times, as a module of plain tensors."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """Args: x: (B, C, H, W). t: (B,), in the schedule's unit. y: labels, (B,). Returns: (B, C, H, W)."""
        return self.denoiser.output(x, t, **({} if y is None else {"y": y}))


def export_program(denoiser: Denoiser, path: Path) -> None:
    """Writes a program of `torch.export`, which `torch.export.load(path).module()` reads. Raises: CheckpointError: it has no graph."""
    program = _program(denoiser)
    with open_atomically(path) as file:
        torch.export.save(program, file)


def export_onnx(denoiser: Denoiser, path: Path) -> None:
    """Writes an ONNX model.

    Raises:
        LibraryError: onnx or onnxscript is not installed.
        CheckpointError: the network has no graph.
    """
    for name in ("onnx", "onnxscript"):
        optional_library(name, "an export to onnx", "onnx onnxscript")
    exported = torch.onnx.export(_program(denoiser), dynamo=True)
    assert exported is not None
    with open_atomically(path) as file:
        file.write(exported.model_proto.SerializeToString())


def _program(denoiser: Denoiser) -> torch.export.ExportedProgram:
    spec = denoiser.spec
    if spec.super_resolution is not None:
        raise CheckpointError(
            "to a graph: super_resolution: its low-resolution image is no input of a graph; export to safetensors instead"
        )
    x = torch.zeros(BATCH, *spec.shape)
    low, high = spec.schedule.t_min, spec.schedule.domain[1]
    t = torch.linspace(low, high, BATCH, dtype=torch.float64).float()
    batch = torch.export.Dim("batch", min=1)
    inputs: tuple[Tensor, ...] = (x, t)
    if spec.backbone.num_classes is not None:
        inputs = (*inputs, torch.zeros(BATCH, dtype=torch.long))
    shapes = tuple({0: batch} for _ in inputs)
    module = ConditionedNetwork(denoiser).eval().requires_grad_(False)
    try:
        with torch.no_grad():
            module(*inputs)  # tables of the schedule are made at the first call
            return torch.export.export(module, inputs, dynamic_shapes=shapes)
    except Exception as error:  # torch raises errors of many kinds
        reason = str(error).strip().splitlines()[0][:200]
        raise CheckpointError(
            f"to a graph: torch.export cannot trace {spec.backbone.type_name!r} ({reason}); export to safetensors"
        ) from None
