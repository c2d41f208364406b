"""`etsdm data`: prepare, inspect, measure and encode image sets."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from etsdm.cli.data_encode import encode
from etsdm.cli.options import JsonOption
from etsdm.cli.run import Overrides, RecipeArgument

if TYPE_CHECKING:
    from etsdm.data import Dataset
    from etsdm.data.inspection import Inspection
    from etsdm.data.preparation import PreparedSet

__all__ = ["app"]

STATISTICS = "data-statistics.json"
MAX_ROWS = 12  # of a column of the table, and of listed images
SIZE, CHANNELS = 1, 3  # of images at a place without a recipe, which are decoded for faults alone

app = typer.Typer(help="Prepare, inspect, measure and encode image sets.", no_args_is_help=True)
app.command()(encode)


@app.command()
def prepare(
    source: Annotated[Path, typer.Argument(help="What was downloaded: folder, LMDB database, .zip, or cifar-10-python.tar.gz.")],
    dataset: Annotated[
        str, typer.Option(help="ffhq, celeba-hq, afhq-cat, afhq-wild, lsun-church, lsun-cat, cifar10, or folder for other images.")
    ],
    out: Annotated[Path, typer.Option(help="New folder, or zip archive by its suffix .zip.")],
    size: Annotated[int | None, typer.Option(help="Side in pixels; 256 by default, 32 of cifar10.", min=1)] = None,
    count: Annotated[int | None, typer.Option(help="Required number of images; by default that of the release.", min=1)] = None,
    workers: Annotated[int | None, typer.Option(help="Threads; by default one for each core.", min=1, max=256)] = None,
    on_error: Annotated[
        str, typer.Option(help="stop without a result if some images cannot be used, or skip them and list them in the record.")
    ] = "stop",
    duplicates: Annotated[
        str, typer.Option(help="keep all images of the same pixels, or drop all but the first; both are listed in the record.")
    ] = "keep",
    resize: Annotated[str | None, typer.Option(help="center-crop, lanczos, area or none; center-crop by default.")] = None,
    filter: Annotated[str | None, typer.Option(help="Filter of center-crop; by default that of the release.")] = None,
    channels: Annotated[int | None, typer.Option(help="3 for colour, the default, or 1 for grey.")] = None,
    background: Annotated[str | None, typer.Option(help="white or black behind transparent pixels, which are refused by default.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Crop and resize a published image set, or any images, once, into a folder or zip archive that recipes read.

    A preparation that was stopped goes on.
    """
    from etsdm.cli.waiting import goes_on
    from etsdm.data.preparation import prepare_images, release_dataset
    from etsdm.data.releases import release_of
    from etsdm.runs.threads import cores

    given = {"resize": resize, "filter": filter, "channels": channels, "background": background}
    skips = _choice("--on-error", on_error, "stop", "skip")
    drops = _choice("--duplicates", duplicates, "keep", "drop")
    with goes_on(), _named_errors(), _bars() as show:
        name = release_of(dataset)
        fields = {key: value for key, value in given.items() if value is not None}
        part = release_dataset(name, source, size=size, count=count, **fields)
        record = prepare_images(
            part,
            out,
            release=name,
            on_error="skip" if skips else "stop",
            duplicates="drop" if drops else "keep",
            workers=workers or cores(),
            progress=show,
        )
    if as_json:
        typer.echo(json.dumps(record.model_dump(mode="json"), indent=2))
    else:
        _show_prepared(record, out)


@app.command()
def inspect(
    source: Annotated[str, typer.Argument(metavar="SOURCE|RECIPE", help="Folder, LMDB database, .zip, recipe, or {type: ..., ...}.")],
    overrides: Overrides = None,
    sheet: Annotated[Path | None, typer.Option(help="PNG file of a contact sheet.")] = None,
    images: Annotated[int, typer.Option(help="Images on the contact sheet, at most.", min=1, max=10_000)] = 64,
    as_json: JsonOption = False,
) -> None:
    """Decode all images of a data set, and print their number, sizes, modes and classes, and which are damaged."""
    from etsdm.data.inspection import contact_sheet, inspect_images
    from etsdm.errors import RecipeError
    from etsdm.storage.files import write_atomically
    from etsdm.storage.images import png_bytes

    if sheet is not None and sheet.suffix.lower() != ".png":
        raise RecipeError(f"--sheet: {sheet} is no PNG file; give a name that ends in .png")
    part = _dataset(source, overrides or [])
    with _bars() as show:
        found = inspect_images(part, lambda done, total: show("inspect", done, total))
    if sheet is not None:
        write_atomically(sheet, png_bytes(contact_sheet(part, images=images)))
    if as_json:
        typer.echo(json.dumps({**found.record(), "sheet": None if sheet is None else str(sheet)}, indent=2))
    else:
        _show_inspection(source, found, sheet)


@app.command()
def stats(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help=f"JSON record; {STATISTICS} by default, none with --json.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure mean and deviation of all training images of a recipe, read as its training reads them."""
    from etsdm.experiment import build
    from etsdm.runs.threads import cores
    from etsdm.storage.records import write_record
    from etsdm.training import measure_statistics

    chosen = build(recipe, *(overrides or ())).recipe
    with _bars() as show:
        images = chosen.data.open("train")
        workers = cores() if chosen.compute.workers is None else chosen.compute.workers
        seed = chosen.seeds[0]
        found = measure_statistics(
            images, chosen.training, seed=seed, workers=workers, progress=lambda done, total: show("measure", done, total)
        )
    file = out if out is not None else None if as_json else Path(STATISTICS)
    if file is not None:
        write_record(file, found)
    if as_json:
        typer.echo(json.dumps(found.model_dump(mode="json"), indent=2))
        return
    shape = "x".join(map(str, found.shape))
    typer.echo(f"{found.images:,} training images of {shape}, data {found.data_digest[:16]}")
    for k, (mean, std) in enumerate(zip(found.channel_means, found.channel_stds, strict=True)):
        typer.echo(f"channel {k}: mean {mean:.5f}, standard deviation {std:.5f}")
    typer.echo(f"all: mean {found.mean:.5f}, standard deviation {found.std:.5f} (sigma_data), from {found.low:.4g} to {found.high:.4g}")
    typer.echo(f"record: {file}")


def _dataset(source: str, overrides: list[str]) -> Dataset:
    """The data set of a place, of a recipe, or from its name or mapping. Raises: RecipeError for changes of what is no recipe."""
    from etsdm.cli.options import parse_part
    from etsdm.data.place import dataset_at
    from etsdm.errors import RecipeError
    from etsdm.experiment import build
    from etsdm.recipe import names
    from etsdm.registry import datasets

    place = Path(source).expanduser()
    is_place = place.suffix.lower() not in (".yaml", ".yml") and source not in names() and (place.exists() or "/" in source)
    is_part = source.startswith("{") or (source not in names() and source in datasets)
    if not is_place and not is_part:
        return build(source, *overrides).recipe.data
    if overrides:
        raise RecipeError(f"{overrides[0]}: changes a recipe, and {source} is none; leave it out")
    if is_place:
        return dataset_at(place, image_size=SIZE, channels=CHANNELS, background="white")
    part: Dataset = parse_part("datasets", "SOURCE", source)
    return part


def _choice(option: str, value: str, usual: str, other: str) -> bool:
    """Whether an option has its other value. Raises: RecipeError for a third one."""
    from etsdm.errors import RecipeError

    if value not in (usual, other):
        raise RecipeError(f"{option}: {value!r} is unknown; give {usual} or {other}")
    return value == other


@contextmanager
def _named_errors() -> Iterator[None]:
    """Names the option in errors of its value. Raises: RecipeError in place of PartError."""
    from etsdm.errors import PartError, RecipeError

    try:
        yield
    except PartError as error:
        raise RecipeError(f"--{error.field.replace('_', '-')}: {error.message}") from None


@contextmanager
def _bars() -> Iterator[Callable[[str, int, int], None]]:
    """Context with a function that shows progress: a bar for each title."""
    from etsdm.cli.waiting import progress_bar

    bars: dict[str, Any] = {}
    with ExitStack() as stack:

        def show(title: str, done: int, total: int) -> None:
            if title not in bars:
                bars[title] = stack.enter_context(progress_bar(title, total, "images"))
            bars[title].update(done - bars[title].n)

        yield show


def _show_prepared(record: PreparedSet, out: Path) -> None:
    from etsdm.data.preparation import manifest_of, record_of

    of_size = "" if (size := record.decoding.get("image_size")) is None else f" of {size}x{size}"
    classes = f" in {len(record.class_counts)} classes" if record.class_counts else ""
    typer.echo(f"{record.release}: {record.images:,} images{of_size}{classes} in {out}")
    if record.duplicates:
        typer.echo(f"{sum(len(group) - 1 for group in record.duplicates)} images have the pixels of another one; the record lists them")
    if record.left_out:
        typer.echo(f"{len(record.left_out)} images were left out; the record lists them, with the reason")
    typer.echo(f"sha256: {record.set_sha256} of {manifest_of(out)}")
    typer.echo(f"record: {record_of(out)}")


def _show_inspection(source: str, found: Inspection, sheet: Path | None) -> None:
    from rich.table import Table

    from etsdm.cli.display import console

    table = Table(title=source, caption=f"{found.images:,} images, {len(found.damaged):,} of which cannot be used")
    table.add_column("property")
    table.add_column("value")
    table.add_column("images", justify="right")
    for name in ("formats", "sizes", "modes", "channels", "marks", "classes"):
        counts = getattr(found, name)
        for k, (value, count) in enumerate(list(counts.items())[:MAX_ROWS]):
            table.add_row("" if k else name, value, f"{count:,}")
        if len(counts) > MAX_ROWS:
            rest = list(counts.values())[MAX_ROWS:]
            table.add_row("", f"and {len(rest)} more", f"{sum(rest):,}")
    console.print(table)
    for message in list(found.damaged.values())[:MAX_ROWS]:
        console.print(message, soft_wrap=True, highlight=False)
    if len(found.damaged) > MAX_ROWS:
        console.print(f"and {len(found.damaged) - MAX_ROWS:,} more; --json lists all", highlight=False)
    if sheet is not None:
        console.print(str(sheet), soft_wrap=True, highlight=False)
