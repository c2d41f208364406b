"""`convert`: a checkpoint of another program as a folder that `etsdm.load` reads, with a report.

    conversion.json    origin, sha256 of the source, keys used and ignored, choices, parity; sealed

The folder is read again before it appears: each tensor is compared with the source's, bit by bit, and the network is called; where the
origin's own network is at hand, with the same input, and the outputs are compared.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from etsdm.backbones import External
from etsdm.checkpoints import read_checkpoint, write_denoiser
from etsdm.checkpoints.format import check_checkpoint
from etsdm.errors import IntegrityError
from etsdm.interop.comparison import compare_outputs, compare_tensors
from etsdm.interop.conversion import Converted, Options
from etsdm.interop.sources import read_source
from etsdm.randomness import per_sample_normal
from etsdm.storage.faults import storage_errors
from etsdm.storage.files import atomic_folder
from etsdm.storage.records import Record, write_record
from etsdm.storage.tensors import read_tensors

__all__ = ["REPORT_FILE", "ConversionReport", "Options", "convert"]

REPORT_FILE = "conversion.json"


class ConversionReport(Record):
    """Report of a conversion.

    Fields: origin; source, the path; files, sha256 of each file of it; weights_are, `ema`, `current` or `as stored`; dtypes of the
    source's tensors, stored as float32; used, keys of the source by key of the denoiser; ignored, keys of the source with the reason;
    choices, where parts come from that the source does not hold; parity, what was compared and found.
    """

    FORMAT: ClassVar[int] = 1
    MEND: ClassVar[str] = "convert the source again"

    origin: str
    source: str
    files: dict[str, str]
    weights_are: str
    dtypes: dict[str, int]
    used: dict[str, str]
    ignored: dict[str, str]
    choices: dict[str, str]
    parity: dict[str, Any]


@storage_errors()
def convert(origin: str, path: str | Path, out: str | Path, options: Options | None = None) -> ConversionReport:
    """Converts a checkpoint of another program.

    Args:
        origin: a name of `etsdm.interop.sources.ORIGINS`.
        path: its file, or for diffusers its folder. Nothing in it is run.
        out: a new folder, which appears whole or not at all.
        options: what the source does not hold.

    Returns:
        The report, which is also `conversion.json` in the folder.

    Raises:
        CheckpointError: the source is of another kind or architecture, or lacks a field that has to be given.
        IntegrityError: it is damaged or holds code, the folder exists, or a comparison failed.
    """
    path, out = Path(path), Path(out)
    if out.exists():
        raise IntegrityError(f"{out}: exists and is not overwritten; remove it, or give another folder")
    found = read_source(origin, path, options or Options())
    with atomic_folder(out) as new:
        _write(new, found, origin)
        report = ConversionReport(
            origin=origin,
            source=str(path),
            files=found.files,
            weights_are=found.weights_are,
            dtypes=_dtypes(found),
            used=found.used,
            ignored=found.ignored,
            choices=found.choices,
            parity=_parity(new, found, path),
        )
        write_record(new / REPORT_FILE, report)
    return report


def _write(folder: Path, found: Converted, origin: str) -> None:
    denoiser = found.spec.build()
    if isinstance(found.spec.backbone, External):  # its network is not at hand
        weights = {key: value.float() for key, value in found.backbone.items()}
        write_denoiser(folder, denoiser, weights, weights_are=found.weights_are, converted_from=origin)
        return
    denoiser.backbone.load_state_dict(found.backbone)
    if denoiser.first_stage is not None:
        denoiser.first_stage.load_state_dict(found.first_stage or {})
    write_denoiser(folder, denoiser, denoiser.backbone.state_dict(), weights_are=found.weights_are, converted_from=origin)


def _dtypes(found: Converted) -> dict[str, int]:
    counts: dict[str, int] = {}
    for value in [*found.backbone.values(), *(found.first_stage or {}).values()]:
        name = str(value.dtype).removeprefix("torch.")
        counts[name] = counts.get(name, 0) + 1
    return counts


@torch.no_grad()
def _parity(folder: Path, found: Converted, path: Path) -> dict[str, Any]:
    """Reads the folder again and compares. Raises: IntegrityError: a tensor, or the output, differs."""
    if isinstance(found.spec.backbone, External):
        return _external_parity(folder, found, path)
    try:
        denoiser = read_checkpoint(folder).denoiser
    except IntegrityError as error:
        raise IntegrityError(f"{path}: {error}") from None
    parity = compare_tensors(path, denoiser.state_dict(), found.state())
    x, time, cond = _inputs(found)
    output = denoiser.backbone(x, time, **cond)
    if not output.isfinite().all():
        raise IntegrityError(f"{path}: the network's output is not finite for noise at times {time.tolist()}; give other weights")
    parity |= {"forward_finite": True, "output_rms": output.square().mean().sqrt().item()}
    if found.original is not None:
        theirs = found.original(x, time, cond)
        parity |= compare_outputs(path, output, theirs, "its own network and the converted one", "use the network itself, by etsdm.wrap")
    return parity


def _external_parity(folder: Path, found: Converted, path: Path) -> dict[str, Any]:
    """Compares tensors alone, as the network is not at hand. Raises: IntegrityError: one differs, or is not finite."""
    stored = read_tensors(folder, check_checkpoint(folder).weights)
    for key, value in stored.items():
        if not value.isfinite().all():
            raise IntegrityError(f"{path}: weight {key!r} is not finite; give another checkpoint")
    return {**compare_tensors(path, stored, found.backbone), "forward": "not run: external network"}


def _inputs(found: Converted) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Seeded input of the network: noise at an early and a late time of the schedule."""
    spec = found.spec
    network = spec.backbone
    x, time, cond = network.empty_inputs(2)
    x = per_sample_normal(0, "interop/parity", range(2), x.shape[1:])
    low, high = spec.schedule.t_min, spec.schedule.domain[1]
    times = torch.tensor([low + 0.1 * (high - low), low + 0.9 * (high - low)], dtype=torch.float64)
    time = spec.time_input(spec.condition_map(times, spec.schedule)).to(torch.float32)
    if "y" in cond:
        cond["y"] = torch.tensor([0, (network.num_classes or 1) - 1])
    if "context" in cond:
        cond["context"] = per_sample_normal(0, "interop/context", range(2), cond["context"].shape[1:])
    return x, time, cond
