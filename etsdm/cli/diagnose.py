"""`etsdm diagnose`: how a trained model stands with regard to the paper, and what to do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from etsdm.cli.options import JsonOption, WeightsOption

if TYPE_CHECKING:
    from etsdm.report.diagnosis import Diagnosis

__all__ = ["diagnose"]

PAGE = "diagnosis.html"
ARGUMENTS = {"data": "--data", "model": "MODEL"}  # by the name in an error
TOPICS = ("time-awareness", "schedule", "smoothness", "shared conditions", "what to do")  # of the sentences below the table


def diagnose(
    model: Annotated[str, typer.Argument(help="Folder of a run, of a checkpoint or of diffusers, or a file of weights.")],
    changes: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="What another program's files do not hold, as schedule=cosine target=v."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Folder of images, or a data set, a name or {type: ..., ...}; that of its run, else own samples, by default."),
    ] = None,
    images: Annotated[int, typer.Option(help="Number of images.", min=1)] = 32,
    fine: Annotated[int, typer.Option(help="Times in each sub-interval.", min=1)] = 20,
    coarse: Annotated[int, typer.Option(help="Times beyond the last sub-interval.", min=1)] = 18,
    batch_size: Annotated[int, typer.Option(help="Images in one pass of the network.", min=1)] = 32,
    origin: Annotated[str | None, typer.Option(help="Program that wrote a file; guided-diffusion by default.")] = None,
    weights: WeightsOption = "ema",
    seed: Annotated[int, typer.Option(help="Seed of the noise, and of samples.")] = 0,
    out: Annotated[Path | None, typer.Option(help="HTML file of the page; diagnosis.html by default, none with --json.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure whether a model is steep in time near t = 0, whether it looks at t at all, and what shared conditions would change."""
    from etsdm.cli.options import parse_weights
    from etsdm.cli.waiting import progress_bar
    from etsdm.devices import resolve_device
    from etsdm.recipe import Document, override
    from etsdm.report import diagnosis

    page = _page(out, as_json)
    chosen = _data(data)
    with progress_bar("diagnose", 1, "images") as bar, _named_errors():

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        found = diagnosis.diagnose(
            model,
            chosen,
            images=images,
            fine=fine,
            coarse=coarse,
            weights=parse_weights(weights),
            fields=override(Document.of({}), changes or []).data,
            origin=origin,
            device=resolve_device(),
            seed=seed,
            batch_size=batch_size,
            progress=show,
        )
    if page is not None:
        found.write(page)
    if as_json:
        typer.echo(json.dumps(found.record(), indent=2, allow_nan=False))
    else:
        _show(found, page)


@contextmanager
def _named_errors() -> Iterator[None]:
    """Names the option or argument in errors of its value. Raises: RecipeError in place of PartError."""
    from etsdm.errors import PartError, RecipeError

    try:
        yield
    except PartError as error:
        raise RecipeError(f"{ARGUMENTS.get(error.field, error.field)}: {error.message}") from None


def _page(out: Path | None, as_json: bool) -> Path | None:
    """The file of the page. Raises: RecipeError unless it is an HTML file."""
    from etsdm.errors import RecipeError

    if out is None:
        return None if as_json else Path(PAGE)
    if out.is_dir():
        return out / PAGE
    if out.suffix.lower() not in (".html", ".htm"):
        raise RecipeError(f"--out: {out} is no HTML file; give a name that ends in .html, or a folder")
    return out


def _data(text: str | None) -> Any:
    """A folder, or a data set by its name or mapping. Raises: RecipeError."""
    from etsdm.cli.options import parse_part

    return None if text is None else Path(text) if Path(text).is_dir() else parse_part("datasets", "--data", text)


def _show(found: Diagnosis, page: Path | None) -> None:
    from rich.table import Table

    from etsdm.cli.display import console
    from etsdm.report.diagnosis.page import key_numbers

    record = found.record()
    is_own = record["shared_conditions"]["is_own"]
    table = Table(title=found.label, caption=f"measured on {found.images.source}; K is {record['lipschitz']['unit']}")
    for name in ("measured", "as it is", *([] if is_own else ["shared, before training"])):
        table.add_column(name, justify="left" if name == "measured" else "right")
    for row in key_numbers(record):
        table.add_row(*row[: 2 if is_own else 3])
    console.print(table)
    advice = [one for one in found.advice if one.topic in TOPICS]
    for one in advice:
        console.print(one.finding, highlight=False)
    for action in (one.action for one in advice if one.action):
        console.print(f"To do: {action}", highlight=False)
    if page is not None:
        console.print(str(page), soft_wrap=True, highlight=False)
