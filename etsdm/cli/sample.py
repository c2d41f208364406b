"""`etsdm sample`: draw images from a trained denoiser."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from etsdm.samplers import Plan, Sampler
    from etsdm.sampling import PngStore, SamplingTask

__all__ = ["sample"]

ANIMATIONS = ("gif", "webp")


def sample(
    checkpoint: Annotated[Path | None, typer.Argument(metavar="[CHECKPOINT]", help="A run's folder, or a checkpoint's.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the images.")] = Path("samples"),
    n: Annotated[int, typer.Option("-n", help="How many images.", min=1)] = 64,
    sampler: Annotated[
        str | None, typer.Option(help="A name (`etsdm parts samplers`) or {type: ..., ...}; by default that of the run's recipe.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Number of steps; by default the sampler's own.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Seed of the noise; image k depends on it and on k alone.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Images in one pass.", min=1)] = 64,
    labels: Annotated[str | None, typer.Option(help="Classes that are drawn in turn, as 3, 0,1,2 or 0:10; by default all.")] = None,
    low_res: Annotated[
        Path | None, typer.Option(help="Small images that are enlarged in turn: a folder with its sub-folders, or one.")
    ] = None,
    condition_map: Annotated[
        str | None, typer.Option(help="Sample with another map than was trained: a name or {type: ..., ...}; the protocol says so.")
    ] = None,
    guidance: Annotated[
        float | None, typer.Option(help="Scale w of classifier-free guidance, 1 for none; the last label is that of no class.")
    ] = None,
    guidance_interval: Annotated[
        str | None, typer.Option(help="Noise levels sigma/alpha at which it guides, as 0.28:2.9; by default all.")
    ] = None,
    chunk: Annotated[int | None, typer.Option(help="Images that a first stage decodes at a time.", min=1)] = None,
    animate: Annotated[str | None, typer.Option(help="Also what the steps predict of the first images, animated: gif or webp.")] = None,
    npz: Annotated[bool, typer.Option("--npz", help="Also samples.npz with arr_0 and arr_1, as guided-diffusion writes it.")] = False,
    zip_: Annotated[bool, typer.Option("--zip", help="Also samples.zip of the images, for tools that measure FID.")] = False,
    rank: Annotated[int, typer.Option(help="Which of several processes this is; torchrun says it.", envvar="RANK", min=0)] = 0,
    world: Annotated[int, typer.Option(help="How many processes share the images.", envvar="WORLD_SIZE", min=1)] = 1,
    plan: Annotated[bool, typer.Option("--plan", help="Print every call of the network, and draw nothing.")] = False,
    schedule: Annotated[str | None, typer.Option(help="Of --plan without a checkpoint: a name or {type: ..., ...}.")] = None,
    target: Annotated[str | None, typer.Option(help="Likewise; eps by default.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Draw images into a folder, one PNG each, and a grid of the first ones.

    The checkpoint knows its schedule, target and condition map; no flag is needed for E-TSDM. A job that was stopped goes on with the
    same command, and several processes share it.
    """
    from etsdm.cli import sampling
    from etsdm.errors import RecipeError
    from etsdm.registry import suggestion

    if animate is not None and animate not in ANIMATIONS:
        raise RecipeError(f"--animate: {animate!r} is no format; {suggestion(animate, ANIMATIONS, 'formats')}")
    if rank >= world:
        raise RecipeError(f"--rank: {rank} is no rank among {world}; give 0 to {world - 1}, or another --world")
    if checkpoint is None:
        if not plan or schedule is None:
            raise RecipeError("nothing to draw from; give a checkpoint, or --plan with --schedule")
        for option, value in (("--labels", labels), ("--low-res", low_res), ("--guidance", guidance), ("--chunk", chunk)):
            if value is not None:
                raise RecipeError(f"{option}: says nothing of a plan without a checkpoint; leave it out")
        parts = sampling.parts_of(schedule, target or "eps", condition_map or "identity")
        chosen = sampling.sampler_of(sampler, steps, None)
        _show_plan(sampling.plan_of(chosen, parts), chosen, as_json)
        return
    for option, value in (("--schedule", schedule), ("--target", target)):
        if value is not None:
            raise RecipeError(f"{option}: the checkpoint has its own; leave it out")
    subject = sampling.subject_of(checkpoint, condition_map, guidance, guidance_interval)
    chosen = sampling.sampler_of(sampler, steps, subject.recipe)
    planned = sampling.plan_of(chosen, subject.guided)
    if plan:
        _show_plan(planned, chosen, as_json)
        return
    in_turn = sampling.classes_in_turn(subject, labels)
    drawing, protocol = sampling.drawing_of(subject, chosen, seed, in_turn, low_res, chunk)
    folder = _folder(out, protocol, in_turn)
    facts = _drawn(folder, drawing, n, batch_size, rank, world)
    if folder.is_complete(n):
        facts["files"] = [str(path) for path in _finish(folder, drawing, n, in_turn, animate, npz=npz, zip_=zip_)]
    if as_json:
        typer.echo(json.dumps({**facts, "nfe": planned.nfe, "protocol_digest": folder.digest, "protocol": protocol}, indent=2))
        return
    if facts["share"] == 0:
        typer.echo(f"{out}: {n} images in batches of {batch_size} leave none for rank {rank} of {world}")
    elif facts["drawn"] == 0:
        typer.echo(f"{out}: every image{' of this share' if world > 1 else ''} is there already")
    if "files" not in facts:
        typer.echo(f"{out}: rank {rank} of {world} is done; the last one writes the grid")
    for path in facts.get("files", ()):
        typer.echo(path)


def _folder(out: Path, protocol: dict[str, Any], labels: list[int] | None) -> PngStore:
    from etsdm.sampling import PngStore

    shared = {"seed": str(protocol["seed"]), **({"recipe": protocol["recipe"]} if protocol["recipe"] else {})}

    def facts(k: int) -> dict[str, str]:
        return shared if labels is None else {**shared, "label": str(labels[k % len(labels)])}

    return PngStore(out, protocol, facts)


def _drawn(folder: PngStore, drawing: SamplingTask, n: int, batch_size: int, rank: int, world: int) -> dict[str, Any]:
    """Draws what is missing of this process's share. Returns: facts of it."""
    from etsdm.cli.waiting import LateBar, goes_on
    from etsdm.sampling import generate_missing

    folder.open_for(n)
    with folder.locked(rank):
        work = generate_missing(drawing, folder, n=n, batch_size=batch_size, rank=rank, world=world)
        found = progress = next(work)
        clock = time.perf_counter()
        with goes_on(), LateBar("sampling", found.total, "images") as bar:
            bar.reached(found.done)
            for progress in work:
                bar.reached(progress.done)
    drawn, seconds = progress.done - found.done, time.perf_counter() - clock
    speed = round(drawn / seconds, 3) if drawn else None
    return {"out": str(folder.path), "images": n, "share": found.total, "drawn": drawn, "images_per_second": speed}


def _finish(
    folder: PngStore, drawing: SamplingTask, n: int, labels: list[int] | None, animate: str | None, *, npz: bool, zip_: bool
) -> list[Path]:
    """Writes what is made of all images. Returns: the paths of all that there is."""
    from etsdm.sampling import write_grid, write_npz, write_trajectory, write_zip

    paths = [folder.images, write_grid(folder, n)]
    if animate:
        paths.append(write_trajectory(folder, drawing, n, f"trajectory.{animate}"))
    if npz:
        told = None if labels is None else [labels[k % len(labels)] for k in range(n)]
        paths.append(write_npz(folder, n, told, "samples.npz"))
    if zip_:
        paths.append(write_zip(folder, n, "samples.zip"))
    return paths


def _show_plan(plan: Plan, sampler: Sampler, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"sampler": sampler.model_dump(mode="json"), **plan.record()}, indent=2, allow_nan=False))
        return
    from etsdm.cli.display import console

    console.print(_plan_table(plan, sampler))


def _plan_table(plan: Plan, sampler: Sampler) -> Table:
    from rich.table import Table

    end = "the clean image" if plan.end is None else f"t = {plan.end:g}"
    table = Table(title=str(sampler.type_name), caption=f"{plan.nfe} network calls in {plan.steps} steps, to {end}")
    for heading in ("call", "step", "t", "f(t)", "alpha", "sigma", "log-SNR", "order"):
        table.add_column(heading, justify="right")
    for call in plan.calls:
        numbers = (f"{value:.6g}" for value in (call.t, call.f, call.alpha, call.sigma, call.log_snr))
        table.add_row(str(call.number), str(call.step), *numbers, str(call.order))
    return table
