"""`etsdm sample`: draw images from a trained denoiser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["sample"]


def sample(
    checkpoint: Annotated[Path, typer.Argument(help="A run's folder, or a checkpoint's.")],
    out: Annotated[Path, typer.Option(help="Where the picture goes.")] = Path("samples.png"),
    n: Annotated[int, typer.Option("-n", help="How many images.", min=1)] = 64,
    sampler: Annotated[str, typer.Option(help="Sampler (`etsdm parts samplers`).")] = "ddim",
    steps: Annotated[int | None, typer.Option(help="Number of steps; by default the sampler's own.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Seed of the noise; image k depends on it and on k alone.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Images in one pass.", min=1)] = 64,
) -> None:
    """Draw images and put them side by side in one PNG.

    The checkpoint knows its schedule, target and condition map; no flag is needed for E-TSDM.
    """
    import torch
    from rich.progress import track

    from etsdm.atomic import write_atomically
    from etsdm.cli.display import console
    from etsdm.experiment import load
    from etsdm.pictures import image_grid, png_bytes
    from etsdm.samplers import resolve_sampler, sample_batches

    denoiser = load(checkpoint, "cuda" if torch.cuda.is_available() else "cpu")
    chosen = resolve_sampler(sampler, steps)
    labels = torch.arange(n) % denoiser.num_classes if denoiser.num_classes else None
    total = -(-n // batch_size) * len(chosen.times(denoiser))
    batches = sample_batches(denoiser, chosen, {"y": labels}, n=n, seed=seed, batch_size=batch_size)
    images = [denoiser.decode(step.x).cpu() for _, step in track(batches, "sampling", total, console=console) if step.i == step.n]
    facts = {"seed": str(seed), "sampler": chosen.model_dump_json(), "denoiser": denoiser.spec.model_dump_json()}
    write_atomically(out, png_bytes(image_grid(torch.cat(images)), facts))
    typer.echo(out)
