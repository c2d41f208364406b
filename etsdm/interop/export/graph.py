"""Export of the network's graph, condition map included: the output of `Denoiser.output` at the true t.

    x         noisy images or latents, (batch, C, H, W), float32
    t         true times in the schedule's unit, (batch,), float32; scaling of x, condition map and time input are in the graph
    y         labels, (batch,), int64, where there are classes
    context   (batch, tokens, context_dim), float32, where the network has cross-attention to a given context
    low_res   low-resolution images, (batch, C, H / factor, W / factor), float32, for super-resolution
    output    (batch, C, H, W), in the target's space, without a learned variance

Batch and tokens are free. Beside the graph is the specification of the denoiser in JSON, under `etsdm.denoiser`, and its condition map,
under `etsdm.condition_map`. The written file is read again and compared with the network, at times on, below and above the map's edges.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from etsdm.condition_maps import Intervals
from etsdm.denoisers.denoiser import Denoiser, DenoiserSpec
from etsdm.errors import CheckpointError, IntegrityError
from etsdm.interop.comparison import compare_outputs
from etsdm.interop.export.single_file import entries_of
from etsdm.randomness import per_sample_normal
from etsdm.registry.optional import optional_library
from etsdm.storage.files import atomic_files

__all__ = ["ConditionedNetwork", "export_onnx", "export_program"]

LARGEST_MODEL = 1_500_000_000  # bytes of weights inside an ONNX file; protocol buffers end at 2 GiB
TOKENS, ROWS = 3, 3  # tokens of a traced context, rows of a compared batch
OUTPUT = "output"
INPUTS = {
    "x": "noisy images or latents",
    "t": "true times in the schedule's unit, from {low:g} to {high:g}",
    "y": "labels, from 0 to {last_class}",
    "context": "context of cross-attention",
    "low_res": "low-resolution images in [-1, 1]",
}
LIBRARIES = ("onnx", "onnxscript", "onnxruntime")

Inputs = dict[str, Tensor]


def _hypot(a: Any, b: Any) -> Any:
    """The square root of a^2 + b^2 in ONNX; schedules are in float64, where nothing overflows."""
    from onnxscript import opset18 as op

    return op.Sqrt(op.Add(op.Mul(a, a), op.Mul(b, b)))


OPERATORS: dict[Callable[..., Any], Callable[..., Any]] = {torch.ops.aten.hypot.default: _hypot}  # that torch.onnx lacks


class ConditionedNetwork(nn.Module):
    """The output of a denoiser's network at true times, as a module of plain tensors."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(
        self, x: Tensor, t: Tensor, y: Tensor | None = None, context: Tensor | None = None, low_res: Tensor | None = None
    ) -> Tensor:
        """Evaluates the network; arguments and result are those of the module."""
        cond = {"y": y, "context": context, "low_res": low_res}
        return self.denoiser.output(x, t, **{name: value for name, value in cond.items() if value is not None})


def export_program(denoiser: Denoiser, path: Path) -> dict[str, Any]:
    """Writes a program of `torch.export`, which `torch.export.load(path).module()` reads.

    Returns:
        The comparison with the network, see `etsdm.interop.comparison`.

    Raises:
        CheckpointError: the network cannot be traced.
        IntegrityError: the written program gives another output.
    """
    program = _program(denoiser, "torch-export")
    with atomic_files(path) as file, _quiet():
        buffer = io.BytesIO()  # a full disk under torch's own writer ends the process
        torch.export.save(program, buffer, extra_files=entries_of(denoiser.spec))
        file.write_bytes(buffer.getbuffer())
        with file.open("rb") as written:
            module = torch.export.load(written).module()
        return _compared(denoiser, path, "torch.export", lambda inputs: module(**inputs))


def export_onnx(denoiser: Denoiser, path: Path) -> dict[str, Any]:
    """Writes an ONNX model; with weights of more than `LARGEST_MODEL` bytes, these into a second file, PATH.data.

    Returns:
        The comparison of onnxruntime, on the CPU, with the network, see `etsdm.interop.comparison`.

    Raises:
        LibraryError: a library of the extra onnx is not installed.
        CheckpointError: the network cannot be traced, or has an operator that ONNX lacks.
        IntegrityError: the written model gives another output, or PATH.data exists.
    """
    onnxruntime = [optional_library(name, "an export to onnx", "'etsdm[onnx]'") for name in LIBRARIES][-1]
    weights = sum(value.numel() * value.element_size() for value in denoiser.state_dict().values())
    data = path.with_name(f"{path.name}.data")
    if weights > LARGEST_MODEL and data.exists():
        raise IntegrityError(f"{data}: exists and is not overwritten, and the weights belong there; remove it, or give another path")
    program = _program(denoiser, "onnx")
    shapes = _dynamic_shapes(_inputs(denoiser, _ends(denoiser.spec)), "batch", "tokens")
    with atomic_files(path) as file, _quiet():
        try:
            exported = torch.onnx.export(
                program, dynamic_shapes=shapes, output_names=[OUTPUT], custom_translation_table=OPERATORS, dynamo=True, verbose=False
            )
        except Exception as error:
            raise _untraceable(denoiser, "onnx", error) from None
        assert exported is not None
        _document(exported.model, denoiser.spec)
        exported.save(file, external_data=weights > LARGEST_MODEL)
        del exported
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

        def call(inputs: Inputs) -> Tensor:
            (out,) = session.run([OUTPUT], {name: value.cpu().numpy() for name, value in inputs.items()})
            return torch.from_numpy(out)

        return _compared(denoiser, path, "onnxruntime", call)


def _document(model: Any, spec: DenoiserSpec) -> None:
    """Puts a description of each input, the specification and the condition map into an ONNX model."""
    low, high = _ends(spec)
    facts = {"low": low, "high": high, "last_class": (spec.backbone.num_classes or 1) - 1}
    for value in model.graph.inputs:
        value.doc_string = INPUTS[value.name].format(**facts)
    model.graph.outputs[0].doc_string = f"the network's output, target {spec.target.type_name}"
    model.doc_string = f"{spec.backbone.type_name} with condition map {spec.condition_map.type_name} in the graph; call it at the true t"
    model.metadata_props.update(entries_of(spec))


def _program(denoiser: Denoiser, to: str) -> torch.export.ExportedProgram:
    inputs = _inputs(denoiser, _ends(denoiser.spec))
    shapes = _dynamic_shapes(inputs, Dim("batch", min=1), Dim("tokens", min=1))
    with _evaluating(denoiser), torch.no_grad(), _quiet():
        module = ConditionedNetwork(denoiser)
        try:
            module(**inputs)  # tables of the schedule are made at the first call
            return torch.export.export(module, (), inputs, dynamic_shapes=shapes)
        except Exception as error:  # torch raises errors of many kinds
            raise _untraceable(denoiser, to, error) from None


def _untraceable(denoiser: Denoiser, to: str, error: Exception) -> CheckpointError:
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
    return CheckpointError(f"to {to}: backbone: {denoiser.spec.backbone.type_name!r} has no graph ({reason}); export to safetensors")


def _inputs(denoiser: Denoiser, times: list[float]) -> Inputs:
    """Seeded inputs, a row for each time."""
    spec, batch = denoiser.spec, len(times)
    shapes: dict[str, tuple[int, ...]] = {"x": spec.shape}
    _, _, cond = spec.backbone.empty_inputs(batch)
    if "context" in cond:
        shapes["context"] = (TOKENS, cond["context"].shape[2])
    if spec.super_resolution is not None:
        channels, height, width = spec.shape
        shapes["low_res"] = (channels, height // spec.super_resolution.factor, width // spec.super_resolution.factor)
    inputs = {name: per_sample_normal(0, f"interop/graph/{name}", range(batch), shape) for name, shape in shapes.items()}
    inputs["t"] = torch.tensor(times)
    if spec.backbone.num_classes is not None:
        inputs["y"] = torch.arange(batch) % spec.backbone.num_classes
    return {name: inputs[name].to(denoiser.device) for name in INPUTS if name in inputs}


def _dynamic_shapes(inputs: Inputs, batch: Any, tokens: Any) -> dict[str, dict[int, Any]]:
    """The free dimensions of each input."""
    return {name: {0: batch, 1: tokens} if name == "context" else {0: batch} for name in inputs}


def _ends(spec: DenoiserSpec) -> list[float]:
    """The first and the last time."""
    return [spec.schedule.t_min, spec.schedule.domain[1]]


def _times(spec: DenoiserSpec) -> list[float]:
    """The first and the last time, and times below, on and above the second and the last edge of the condition map."""
    low, high = found = _ends(spec)
    if isinstance(spec.condition_map, Intervals):
        edges = spec.condition_map.sub_intervals.edges
        near = 0.01 * (edges[1] - edges[0])
        found += [edge + offset for edge in (edges[1], edges[-1]) for offset in (-near, 0.0, near)]
    return [min(max(t, low), high) for t in found]


@torch.no_grad()
def _compared(denoiser: Denoiser, path: Path, whose: str, call: Callable[[Inputs], Tensor]) -> dict[str, Any]:
    """Compares a written graph with the network, in batches of another size than the traced one."""
    times = _times(denoiser.spec)
    inputs = _inputs(denoiser, times)
    parts = [{name: value[i : i + ROWS] for name, value in inputs.items()} for i in range(0, len(times), ROWS)]
    with _evaluating(denoiser):
        ours = torch.cat([denoiser.output(**part) for part in parts]).cpu()
    theirs = torch.cat([call(part).cpu() for part in parts])
    return {"compared_with": whose, **compare_outputs(path, ours, theirs, f"{whose} and the network", "export to safetensors")}


@contextmanager
def _evaluating(denoiser: Denoiser) -> Iterator[None]:
    """Context with all modules in eval mode."""
    modes = {module: module.training for module in denoiser.modules()}
    denoiser.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def _quiet() -> Iterator[None]:
    """Context without the warnings of torch about its own exporters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
