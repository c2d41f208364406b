"""`etsdm convert`: checkpoints of other programs as folders that etsdm loads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from etsdm.cli.options import JsonOption

if TYPE_CHECKING:
    from etsdm.interop import ConversionReport

__all__ = ["convert"]


def convert(
    origin: Annotated[str, typer.Argument(help="guided-diffusion, ldm, edm, dit, diffusers, lucidrains or safetensors.")],
    source: Annotated[Path, typer.Argument(metavar="FILE", help="Its file; of diffusers, the folder of a pipeline.")],
    changes: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Fields that the file does not hold, as schedule=cosine backbone.num_heads=4."),
    ] = None,
    out: Annotated[Path, typer.Option(help="New folder of the checkpoint.")] = Path("converted"),
    first_stage: Annotated[Path | None, typer.Option(help="File of the autoencoder's weights, where FILE has none.")] = None,
    weights: Annotated[str, typer.Option(help="ema for the moving average, or current, of files that hold both.")] = "ema",
    as_json: JsonOption = False,
) -> None:
    """Convert a checkpoint of another program; nothing in it is run.

    The folder has a report, conversion.json: keys used and ignored, sha256 of the source, and the comparison with it.
    """
    from etsdm.cli.options import parse_weights
    from etsdm.interop import Options
    from etsdm.interop import convert as convert_checkpoint
    from etsdm.recipe import Document, override

    fields = override(Document.of({}), changes or []).data
    options = Options(model=fields, first_stage=first_stage, weights=parse_weights(weights))
    report = convert_checkpoint(origin, source, out, options)
    if as_json:
        typer.echo(report.model_dump_json(indent=2))
        return
    for line in _lines(report):
        typer.echo(line)
    typer.echo(out)


def _lines(report: ConversionReport) -> list[str]:
    from etsdm.cli.parity import parity_lines

    lines = [f"{key:14} {value}" for key, value in report.choices.items()]
    lines.append(f"{'weights':14} {report.weights_are}, {', '.join(f'{n} {dtype}' for dtype, n in report.dtypes.items())}")
    return lines + parity_lines(report.parity, len(report.ignored))
