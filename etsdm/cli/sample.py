"""`etsdm sample`: images from a trained denoiser."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from etsdm.cli.options import JsonOption, SamplerOption, StepsOption

if TYPE_CHECKING:
    from etsdm.samplers import Sampler
    from etsdm.sampling import GeneratedFolder, Progress, SampledModel, Sampling, SamplingTask

__all__ = ["choose_sampler", "sample"]

ANIMATIONS = ("gif", "webp")
# Panels of the help text.
CONDITIONS, OUTPUT, PROCESSES = "Conditions and guidance", "Output", "Processes"


def sample(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of a run or of a checkpoint.")],
    n: Annotated[int, typer.Option("-n", help="Number of images.", min=1)] = 64,
    sampling: Annotated[str | None, typer.Option(help="Section of the recipe's sampling, by name; the first by default.")] = None,
    sampler: SamplerOption = None,
    steps: StepsOption = None,
    seed: Annotated[int, typer.Option(help="Seed of the noise; image k depends on it and on k alone.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Images in one pass of the network.", min=1)] = 64,
    chunk: Annotated[int | None, typer.Option(help="Images that a first stage decodes at a time; a batch by default.", min=1)] = None,
    labels: Annotated[
        str | None,
        typer.Option(help="Class labels used in turn, as 3, 0,1,2 or 0:10; the recipe's by default.", rich_help_panel=CONDITIONS),
    ] = None,
    low_res: Annotated[
        Path | None, typer.Option(help="Low-resolution images used in turn: a folder or a file.", rich_help_panel=CONDITIONS)
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(help="Scale w of classifier-free guidance, 1 for none; the recipe's by default.", rich_help_panel=CONDITIONS),
    ] = None,
    guidance_interval: Annotated[
        str | None,
        typer.Option(help="Noise levels sigma/alpha of guidance, as 0.28:2.9; the recipe's by default.", rich_help_panel=CONDITIONS),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="ema for the moving average, or current; by default those of the recipe, else ema.")
    ] = None,
    condition_map: Annotated[
        str | None, typer.Option(help="Another condition map than the trained one: a name or {type: ..., ...}.", rich_help_panel=CONDITIONS)
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the images.", rich_help_panel=OUTPUT)] = Path("samples"),
    animate: Annotated[str | None, typer.Option(help="Also an animation of the predicted x0: gif or webp.", rich_help_panel=OUTPUT)] = None,
    npz: Annotated[bool, typer.Option("--npz", help="Also samples.npz, guided-diffusion's format.", rich_help_panel=OUTPUT)] = False,
    zip_: Annotated[bool, typer.Option("--zip", help="Also samples.zip, for tools that measure FID.", rich_help_panel=OUTPUT)] = False,
    as_json: JsonOption = False,
    rank: Annotated[
        int, typer.Option(help="Number of this process, torchrun's by default.", envvar="RANK", min=0, rich_help_panel=PROCESSES)
    ] = 0,
    world: Annotated[
        int, typer.Option(help="Number of processes that share the images.", envvar="WORLD_SIZE", min=1, rich_help_panel=PROCESSES)
    ] = 1,
) -> None:
    """Generate images into a folder: a PNG file each, and a grid of the first ones.

    A checkpoint has its schedule, target and condition map; E-TSDM needs no option. Sampler, weights, labels and guidance are by default
    those with which its recipe draws samples.

    The same command continues an interrupted job, and several processes share one.
    """
    from etsdm.cli.options import option_errors
    from etsdm.errors import RecipeError
    from etsdm.registry import suggestion
    from etsdm.sampling.job import check_rank

    if animate is not None and animate not in ANIMATIONS:
        raise RecipeError(f"--animate: {animate!r} is no format; {suggestion(animate, ANIMATIONS, 'formats')}")
    with option_errors("--rank", {"rank": "--rank"}):
        check_rank(rank, world)
    section, data_classes = _of_recipe(checkpoint, sampling)
    section = _changed(section, weights, labels, guidance, guidance_interval)
    model = _model(checkpoint, section, data_classes, condition_map)
    chosen = choose_sampler(sampler, steps, section.sampler)
    with option_errors("--sampler", {"steps": "--steps"}):
        nfe = chosen.plan(model.denoiser).nfe
    task = _task(model, chosen, seed, section.labels, low_res, chunk)
    exports = [*filter(None, (animate, "npz" if npz else None, "zip" if zip_ else None))]
    result = _generate(task, out, n=n, batch_size=batch_size, rank=rank, world=world, exports=exports)
    if as_json:
        typer.echo(json.dumps({**_facts(result), "nfe": nfe, "protocol": dict(task.protocol)}, indent=2))
        return
    if result.share == 0:
        typer.echo(f"{out}: {n} images in batches of {batch_size} leave none for rank {rank} of {world}")
    elif result.generated == 0:
        typer.echo(f"{out}: every image{' of this share' if world > 1 else ''} is there already")
    if not result.files:
        typer.echo(f"{out}: rank {rank} of {world} is done; the last one writes the grid")
    for path in result.files:
        typer.echo(path)


def choose_sampler(text: str | None, steps: int | None, default: Sampler | None) -> Sampler:
    """The sampler of an option, else the default, else DDIM, with a number of steps if one is given."""
    from etsdm.cli.options import option_errors, parse_part
    from etsdm.samplers import DDIM
    from etsdm.sampling import resolve_sampler

    chosen = parse_part("samplers", "--sampler", text) if text is not None else default or DDIM()
    with option_errors("--steps", {"steps": "--steps"}):
        return resolve_sampler(chosen, steps)


def _of_recipe(checkpoint: Path, name: str | None) -> tuple[Sampling, int | None]:
    """The section of the recipe by which samples are drawn, the default one without a recipe, and the classes of its data, None without."""
    from etsdm.errors import RecipeError
    from etsdm.runs.origin import recipe_of_checkpoint
    from etsdm.sampling import Sampling

    recipe = recipe_of_checkpoint(checkpoint)
    if recipe is not None:
        return recipe.sampling_of(name), recipe.data.num_classes
    if name is not None:
        raise RecipeError(f"--sampling: {checkpoint} belongs to no run, so there is no recipe with sections; leave it out")
    return Sampling(), None


def _changed(section: Sampling, weights: str | None, labels: str | None, guidance: float | None, interval: str | None) -> Sampling:
    """The section with the options that are given in place of its fields."""
    from pydantic import ValidationError

    from etsdm.cli.options import parse_labels, parse_range, parse_weights
    from etsdm.errors import RecipeError
    from etsdm.registry import format_errors

    changed: dict[str, Any] = {}
    if weights is not None:
        changed["weights"] = parse_weights(weights)
    if labels is not None:
        changed["labels"] = tuple(parse_labels(labels))
    if guidance is not None:
        changed["guidance"] = guidance
    if interval is not None:
        if guidance is None and section.guidance is None:
            raise RecipeError("--guidance-interval: there is no guidance; give --guidance")
        changed["guidance_interval"] = parse_range("--guidance-interval", interval, "0.28:2.9")
    try:
        return section.model_copy(update=changed)
    except ValidationError as error:
        problem = format_errors(error)[0]
        raise RecipeError(f"--{problem.field.replace('_', '-')}: {problem.message}") from None


def _model(checkpoint: Path, section: Sampling, data_classes: int | None, condition_map: str | None) -> SampledModel:
    from etsdm.cli.options import option_errors, parse_part
    from etsdm.devices import resolve_device
    from etsdm.sampling import SampledModel

    model = SampledModel.from_checkpoint(checkpoint, resolve_device(), weights=section.weights, data_classes=data_classes)
    if condition_map is not None:
        chosen = parse_part("condition_maps", "--condition-map", condition_map)
        with option_errors("--condition-map", {"condition_map": "--condition-map"}):
            model = model.with_condition_map(chosen)
    if section.guidance is None:
        return model
    with option_errors("--guidance", {"scale": "--guidance", "denoiser": "--guidance", "interval": "--guidance-interval"}):
        return model.with_guidance(section.guidance, section.guidance_interval)


def _task(
    model: SampledModel, sampler: Sampler, seed: int, labels: Sequence[int] | None, low_res: Path | None, chunk: int | None
) -> SamplingTask:
    from etsdm.cli.options import option_errors
    from etsdm.sampling import read_low_res

    with option_errors("--low-res", {"low_res": "--low-res"}):
        images = None if low_res is None else read_low_res(low_res, model.trained.spec)
    options = {"labels": "--labels", "low_res": "--low-res", "chunk": "--chunk", "sampler": "--sampler", "denoiser": "CHECKPOINT"}
    with option_errors("CHECKPOINT", options):
        return model.task(sampler, seed=seed, labels=labels, low_res=images, chunk=chunk)


def _generate(task: SamplingTask, out: Path, **options: Any) -> GeneratedFolder:
    """Calls `generate_folder` with a progress bar."""
    from contextlib import ExitStack

    from etsdm.cli.waiting import goes_on, progress_bar
    from etsdm.sampling import generate_folder

    with goes_on(), ExitStack() as stack:
        bar: Any = None

        def show(progress: Progress) -> None:
            nonlocal bar
            if bar is None:
                bar = stack.enter_context(progress_bar("sampling", progress.total, "images", initial=progress.done))
            bar.update(progress.done - bar.n)

        return generate_folder(task, out, on_progress=show, **options)


def _facts(result: GeneratedFolder) -> dict[str, Any]:
    rate = round(result.generated / result.seconds, 3) if result.generated else None
    facts = {"out": str(result.path), "images": result.n, "share": result.share, "generated": result.generated, "images_per_second": rate}
    if result.files:
        facts["files"] = [str(path) for path in result.files]
    return {**facts, "protocol_digest": result.protocol_digest}
