"""`etsdm lipschitz`: how fast a denoiser's output changes with time."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from etsdm.cli.run import Overrides

if TYPE_CHECKING:
    from rich.table import Table
    from torch import Tensor

    from etsdm.analysis import LipschitzCurve
    from etsdm.cli.subjects import Subject
    from etsdm.schedules import Schedule

__all__ = ["lipschitz"]

NETWORK_IMAGES, NETWORK_BATCH = 128, 64  # as many images as the metric takes
EXACT_IMAGES, EXACT_BATCH = 20_000, 2000
UNITS = ("time", "step")
MOST_TIMES = 1_000_000


def lipschitz(
    subject: Annotated[
        str | None, typer.Argument(metavar="[CHECKPOINT|RECIPE]", help="Folder of a checkpoint or of a run, or a recipe that is trained.")
    ] = None,
    overrides: Overrides = None,
    exact: Annotated[str | None, typer.Option(help="The exact optimum for a mixture: m1, m2 or normal.")] = None,
    schedule: Annotated[str | None, typer.Option(help="Of --exact: a name or {type: ..., ...}; linear by default.")] = None,
    target: Annotated[str | None, typer.Option(help="Of --exact: likewise; eps by default.")] = None,
    condition_map: Annotated[str | None, typer.Option(help="Of --exact: likewise; identity by default.")] = None,
    mode: Annotated[str, typer.Option(help="What is compared: shared-x, coupled, norm, max or derivative.")] = "shared-x",
    t: Annotated[
        str | None, typer.Option("--t", help="Times, as 0:200, 0:0.2:0.001 or 0,5,10; by default 200 steps, of --exact all.")
    ] = None,
    dt: Annotated[float | None, typer.Option("--dt", help="Distance in the schedule's time; one step by default.")] = None,
    images: Annotated[int | None, typer.Option(help="How many are noised; 128 by default, 20000 of --exact.", min=1)] = None,
    data: Annotated[str | None, typer.Option(help="Data set of a checkpoint's images; by default that of its run.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the noise and of the samples of --exact.")] = 0,
    unit: Annotated[str, typer.Option(help="Values per unit of time, where the schedule's horizon is 1, or per step.")] = "time",
    runs: Annotated[Path, typer.Option(help="Folder of all experiments, where the runs of a recipe are.")] = Path("runs"),
    out: Annotated[Path, typer.Option(help="Folder for lipschitz.csv and lipschitz.png.")] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and write no files.")] = False,
) -> None:
    """Measure K(t, t'), how much the output changes from t to t' (paper Eq. 8).

    The arms of a recipe are overlaid, and so is the exact optimum with and without a condition map.
    """
    from etsdm.errors import RecipeError
    from etsdm.registry import suggestion

    if unit not in UNITS:
        raise RecipeError(f"--unit: {unit!r} is no unit; {suggestion(unit, UNITS, 'units')}")
    parts = {"--schedule": schedule, "--target": target, "--condition-map": condition_map}
    if exact is not None:
        subjects, main = _exact(exact, subject, parts, data, images or EXACT_IMAGES, seed)
    else:
        subjects, main = _trained(subject, overrides or [], parts, data, images or NETWORK_IMAGES, runs)
    grids = [_checked(one, t, mode, dt, everything=exact is not None) for one in subjects]
    size = NETWORK_BATCH if exact is None else EXACT_BATCH
    raw = {one.label: _measured(one, grid, mode, dt, seed, size) for one, grid in zip(subjects, grids, strict=True)}
    curves = {label: curve.per_unit_time() if unit == "time" else curve.per_step() for label, curve in raw.items()}
    facts = {one.label: one.facts for one in subjects}
    protocol = {"mode": mode, "dt": raw[main].dt, "images": raw[main].images, "seed": seed, "measured": facts}
    if as_json:
        from etsdm.analysis.records import json_record

        typer.echo(json.dumps(json_record(curves, main, protocol), indent=2, allow_nan=False))
        return
    _show(subjects, curves, protocol, out)


Chosen = tuple[list["Subject"], str]


def _exact(name: str, subject: str | None, parts: Mapping[str, str | None], data: str | None, n: int, seed: int) -> Chosen:
    """The exact optima to measure, and the label of the one that was asked for."""
    from etsdm.cli.subjects import exact_subjects

    _refuse({str(subject): subject, "--data": data}, "--exact is measured on samples of its mixture")
    texts = (
        parts[option] or default for option, default in (("--schedule", "linear"), ("--target", "eps"), ("--condition-map", "identity"))
    )
    subjects = exact_subjects(name, *texts, n=n, seed=seed)
    return subjects, subjects[-1].label


def _trained(
    subject: str | None, overrides: Sequence[str], parts: Mapping[str, str | None], data: str | None, n: int, runs: Path
) -> Chosen:
    """A checkpoint or the runs of a recipe, and the label of the main one."""
    from etsdm.cli.subjects import of_checkpoint, of_recipe
    from etsdm.errors import RecipeError

    if subject is None:
        raise RecipeError("nothing to measure; give a checkpoint, a recipe, or --exact with a mixture")
    _refuse(parts, "a trained denoiser has its own")
    if not Path(subject).is_dir():
        _refuse({"--data": data}, "the recipe names its data")
        return of_recipe(subject, overrides, runs, n)
    _refuse({text: text for text in overrides}, "a checkpoint is measured as it is")
    return [of_checkpoint(Path(subject), data, n)], subject


def _refuse(options: Mapping[str, str | None], reason: str) -> None:
    from etsdm.errors import RecipeError

    for name, value in options.items():
        if value:
            raise RecipeError(f"{name}: {reason}; leave it out")


def _checked(subject: Subject, t: str | None, mode: str, dt: float | None, *, everything: bool) -> list[float]:
    """The times to measure at, after a look at all that the estimator would refuse."""
    from etsdm.analysis import timesteps
    from etsdm.analysis.lipschitz import points_of
    from etsdm.errors import PartError, RecipeError

    schedule = subject.denoiser.schedule
    times = _times(t, schedule) if t is not None else timesteps(schedule)[: None if everything else 200]
    if everything and t is None and dt is not None:
        times = [moment for moment in times if moment + dt <= schedule.domain[1]]
    try:
        points_of(schedule, times, mode, dt)
    except PartError as error:
        raise RecipeError(f"--{error.field}: {error.message}") from None
    return times


def _times(text: str, schedule: Schedule) -> list[float]:
    """The times of an option: `first:end` or `first:end:step`, without the end, or numbers with commas between them."""
    from etsdm.errors import RecipeError

    try:
        if ":" not in text:
            return [float(number) for number in text.split(",")]
        first, end, *step = (float(number) for number in text.split(":"))
        (length,) = step or [schedule.step]
        # A step that is no binary fraction may seem to fit once more by a rounding.
        count = math.ceil((end - first) / length - 1e-9)
        if not 0 < count <= MOST_TIMES:
            raise ValueError
        return [first + k * length for k in range(count)]
    except (ValueError, ZeroDivisionError, OverflowError):
        raise RecipeError(f"--t: {text!r} are no times; give 0:200, 0:0.2:0.001 or 0,5,10") from None


def _measured(subject: Subject, times: list[float], mode: str, dt: float | None, seed: int, batch_size: int) -> LipschitzCurve:
    from etsdm.analysis import lipschitz_curve
    from etsdm.cli.waiting import LateBar

    batches = list(_batches(subject, batch_size))
    with LateBar(subject.label, len(batches)) as bar:
        return lipschitz_curve(subject.denoiser, bar.passing(batches), times, mode=mode, dt=dt, seed=seed, batch_size=batch_size)


def _batches(subject: Subject, size: int) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    for start in range(0, len(subject.images), size):
        rows = slice(start, start + size)
        yield subject.images[rows], {key: value[rows] for key, value in subject.cond.items()}


def _show(subjects: Sequence[Subject], curves: Mapping[str, LipschitzCurve], protocol: dict[str, Any], out: Path) -> None:
    """Writes the CSV file and the figure, and prints a table and their paths."""
    from etsdm.analysis.records import csv_text
    from etsdm.cli.display import console
    from etsdm.metrics import Curve
    from etsdm.report.figures import curves_png
    from etsdm.storage.files import write_atomically

    edges = max((one.edges for one in subjects), key=len)
    drawn: dict[str, list[Curve]] = {}
    for one in subjects:
        curve = curves[one.label]
        t, mean, se = (tuple(values.tolist()) for values in (curve.t, curve.mean, curve.se.nan_to_num()))
        label = f"K(t, t'), {curve.mode}, {curve.unit}"
        axis = "timestep t" if one.denoiser.schedule.is_discrete else "time t"
        drawn.setdefault(one.arm, []).append(Curve(t=t, mean=mean, se=se, t_label=axis, label=label, log_scale=True))
    table, figure = out / "lipschitz.csv", out / "lipschitz.png"
    write_atomically(table, csv_text(curves, protocol))
    write_atomically(figure, curves_png(drawn, edges))
    console.print(_table(curves, edges))
    for path in (table, figure):
        console.print(str(path), soft_wrap=True, highlight=False)


def _table(curves: Mapping[str, LipschitzCurve], edges: Sequence[float]) -> Table:
    """A row for each of the times that tell the curves, a column for each curve."""
    from rich.table import Table

    from etsdm.analysis.records import rows_shown

    first = next(iter(curves.values()))
    table = Table(
        title=f"K(t, t'), {first.mode}, {first.unit}", caption=f"{first.images} images, ± one standard error; all times are in the file"
    )
    table.add_column("t", justify="right")
    for label in curves:
        table.add_column(label, justify="right")
    cells = {
        label: {float(curve.t[k]): _cell(float(curve.mean[k]), float(curve.se[k])) for k in rows_shown(curve, edges)}
        for label, curve in curves.items()
    }
    for t in sorted({t for column in cells.values() for t in column}):
        table.add_row(f"{t:.6g}", *(column.get(t, "") for column in cells.values()))
    return table


def _cell(value: float, se: float) -> str:
    return f"{value:.4g} ± {se:.1g}" if se > 0 else f"{value:.4g}"
