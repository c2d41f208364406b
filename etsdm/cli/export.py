"""`etsdm export`: a denoiser as a file or folder of another program."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from etsdm.cli.options import JsonOption, WeightsOption

__all__ = ["export"]


def export(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of a run or of a checkpoint.")],
    to: Annotated[str, typer.Option(help="guided-diffusion, ldm, edm, dit, diffusers, safetensors, onnx or torch-export.")],
    out: Annotated[Path, typer.Option(help="New file; of diffusers, a new folder.")],
    weights: WeightsOption = "ema",
    as_json: JsonOption = False,
) -> None:
    """Export a denoiser to another program.

    diffusers, safetensors, onnx and torch-export hold the condition map; for the others a warning says that it has to be applied. The
    written file is read again and compared.
    """
    from etsdm.cli.options import parse_weights
    from etsdm.cli.parity import parity_lines
    from etsdm.interop import export_denoiser
    from etsdm.zoo import load

    denoiser = load(checkpoint, weights=parse_weights(weights))
    report = export_denoiser(denoiser, out, to)
    if as_json:
        typer.echo(json.dumps({"out": str(out), "to": to, **report._asdict()}, indent=2))
        return
    for line in report.left_out:
        typer.echo(f"warning: not in the file: {line}", err=True)
    for line in parity_lines(report.parity):
        typer.echo(line)
    typer.echo(out)
