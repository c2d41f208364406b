"""`etsdm lipschitz`: how fast a denoiser's output changes with time."""

from __future__ import annotations

import errno
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from etsdm.cli.options import WeightsOption

if TYPE_CHECKING:
    from rich.table import Table

    from etsdm.analysis import LipschitzCurve, MeasuredModel
    from etsdm.schedules import Schedule

__all__ = ["lipschitz"]

NETWORK_IMAGES, NETWORK_BATCH_SIZE = 128, 64  # as many images as the metric takes
EXACT_SAMPLES, EXACT_BATCH_SIZE = 20_000, 2000
UNITS = ("time", "step")
MAX_TIMES = 1_000_000
PICTURES = ("png", "svg", "pdf")
EXACT = "Exact optimum of a mixture"  # panel of the help text


def lipschitz(
    subject: Annotated[
        str | None, typer.Argument(metavar="[CHECKPOINT|RECIPE]", help="Folder of a checkpoint or of a run, or a recipe that is trained.")
    ] = None,
    more: Annotated[
        list[str] | None, typer.Argument(metavar="[CHECKPOINT|KEY=VALUE]...", help="More checkpoints, or changes of the recipe.")
    ] = None,
    mode: Annotated[str, typer.Option(help="Estimator: shared-x, coupled, norm, max or derivative.")] = "shared-x",
    t: Annotated[
        str | None,
        typer.Option("--t", help="Times, as 0:200, 0:0.2:0.001 or 0,5,10; twice the shared times by default, all with --exact."),
    ] = None,
    dt: Annotated[float | None, typer.Option("--dt", help="Distance in the schedule's time; one step by default.")] = None,
    images: Annotated[int | None, typer.Option(help="Number of noised images; 128 by default, 20000 with --exact.", min=1)] = None,
    data: Annotated[str | None, typer.Option(help="Data set of a checkpoint's images; that of its run by default.")] = None,
    weights: WeightsOption = "ema",
    seed: Annotated[int, typer.Option(help="Seed of the noise and of the samples of --exact.")] = 0,
    unit: Annotated[str, typer.Option(help="Values per unit of time, where the horizon is 1, or per step.")] = "time",
    runs: Annotated[Path, typer.Option(help="Folder of all experiments, for a recipe.")] = Path("runs"),
    out: Annotated[Path, typer.Option(help="Folder for lipschitz.csv and lipschitz.png, or one file: .csv, .png, .svg or .pdf.")] = Path(),
    exact: Annotated[str | None, typer.Option(help="Mixture: m1, m2 or normal.", rich_help_panel=EXACT)] = None,
    schedule: Annotated[str | None, typer.Option(help="Name or {type: ..., ...}; linear by default.", rich_help_panel=EXACT)] = None,
    target: Annotated[str | None, typer.Option(help="Name or {type: ..., ...}; eps by default.", rich_help_panel=EXACT)] = None,
    condition_map: Annotated[str | None, typer.Option(help="Name or {type: ..., ...}; identity by default.", rich_help_panel=EXACT)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and write no files.")] = False,
) -> None:
    """Measure K(t, t'), the change of the output from t to t' over |t - t'| (paper Eq. 8).

    The arms of a recipe share one figure, and so do the exact optimum with and without a condition map.
    """
    from etsdm.analysis.records import distance_of
    from etsdm.errors import RecipeError
    from etsdm.registry import suggestion

    if unit not in UNITS:
        raise RecipeError(f"--unit: {unit!r} is no unit; {suggestion(unit, UNITS, 'units')}")
    files = _files(out)
    parts = {"--schedule": schedule, "--target": target, "--condition-map": condition_map}
    if exact is not None:
        models, main = _exact(exact, subject, parts, data, images or EXACT_SAMPLES, seed)
    else:
        models, main = _trained(subject, more or [], parts, data, images or NETWORK_IMAGES, runs, weights)
    times = {one.label: _checked_times(one, t, mode, dt, _default_count(models, one) if exact is None else None) for one in models}
    size = NETWORK_BATCH_SIZE if exact is None else EXACT_BATCH_SIZE
    raw = {one.label: _measured(one, times[one.label], mode, dt, seed, size) for one in models}
    curves = {label: curve.per_unit_time() if unit == "time" else curve.per_step() for label, curve in raw.items()}
    facts = {one.label: one.facts for one in models}
    protocol = {"mode": mode, "dt": distance_of(raw[main]), "images": raw[main].images, "seed": seed, "measured": facts}
    if as_json:
        from etsdm.analysis.records import json_record

        typer.echo(json.dumps(json_record(curves, main, protocol), indent=2, allow_nan=False))
        return
    _show(models, curves, protocol, files)


Chosen = tuple[list["MeasuredModel"], str]


def _exact(mixture: str, subject: str | None, parts: Mapping[str, str | None], data: str | None, n: int, seed: int) -> Chosen:
    """The exact optimum without and with a condition map, and the label of the main one."""
    from etsdm.analysis import MeasuredModel
    from etsdm.cli.options import option_errors, parse_part, refuse
    from etsdm.condition_maps import Identity

    refuse({str(subject): subject, "--data": data}, "--exact measures samples of its mixture")
    schedule = parse_part("schedules", "--schedule", parts["--schedule"] or "linear")
    target = parse_part("targets", "--target", parts["--target"] or "eps")
    condition_map = parse_part("condition_maps", "--condition-map", parts["--condition-map"] or "identity")
    maps = [condition_map] if condition_map == Identity() else [Identity(), condition_map]
    with option_errors("--exact", {"mixture": "--exact", "condition_map": "--condition-map"}):
        models = [MeasuredModel.exact(mixture, schedule, target, one, n=n, seed=seed) for one in maps]
    return models, models[-1].label


def _trained(
    subject: str | None, more: Sequence[str], parts: Mapping[str, str | None], data: str | None, n: int, runs: Path, weights: str
) -> Chosen:
    """Checkpoints, or the trained runs of a recipe, and the label of the main one."""
    from etsdm.cli.options import refuse
    from etsdm.errors import RecipeError

    if subject is None:
        raise RecipeError("nothing to measure; give a checkpoint, a recipe, or --exact with a mixture")
    refuse(parts, "a trained denoiser has its own")
    if not Path(subject).is_dir():
        refuse({"--data": data}, "the recipe names its data")
        return _of_recipe(subject, more, runs, n, weights)
    refuse({text: text for text in more if "=" in text and not Path(text).is_dir()}, "a checkpoint has no fields to change")
    if len({subject, *more}) <= len(more):
        raise RecipeError("CHECKPOINT: one is given twice; give each once")
    return [_of_checkpoint(folder, data, n, weights) for folder in (subject, *more)], subject


def _of_checkpoint(folder: str, data: str | None, n: int, weights: str) -> MeasuredModel:
    from etsdm.analysis import MeasuredModel
    from etsdm.cli.options import option_errors, parse_part, parse_weights
    from etsdm.devices import resolve_device
    from etsdm.errors import CheckpointError
    from etsdm.runs.origin import recipe_of_checkpoint
    from etsdm.zoo import load

    if data is not None:
        source = parse_part("datasets", "--data", data)
    elif (recipe := recipe_of_checkpoint(folder)) is not None:
        source = recipe.data
    else:
        raise CheckpointError(f"{folder}: has no recipe.yaml beside it that names its data; give --data (`etsdm parts datasets`)")
    with option_errors("--data", {"data": "--data"}):
        return MeasuredModel.trained(load(folder, resolve_device(), weights=parse_weights(weights)), source, n, label=folder)


def _of_recipe(recipe: str, overrides: Sequence[str], runs: Path, n: int, weights: str) -> Chosen:
    from etsdm.analysis import MeasuredModel
    from etsdm.cli.options import parse_weights
    from etsdm.errors import CheckpointError
    from etsdm.experiment import build

    experiment = build(recipe, *overrides, out=runs)
    for run in experiment.runs:
        if not run.is_done("train"):
            command = " ".join(["etsdm run", recipe, *overrides, *([] if runs == Path("runs") else ["--out", str(runs)])])
            raise CheckpointError(f"{run.label}: is not trained in {run.folder.path}; run `{command} --arm {run.arm} --stage train` first")
    chosen = parse_weights(weights)
    main = next(run for run in experiment.runs if run.recipe is experiment.recipe)
    models = [MeasuredModel.trained(run.load_denoiser(chosen), run.recipe.data, n, label=run.label, arm=run.arm) for run in experiment.runs]
    return models, main.label


def _default_count(models: Sequence[MeasuredModel], model: MeasuredModel) -> int:
    """Number of timesteps that reach twice as far as the sub-intervals of all models with its schedule."""
    from etsdm.analysis import measured_edges, steps_of_curve

    schedule = model.denoiser.schedule
    maps = [one.denoiser.condition_map for one in models if one.denoiser.schedule == schedule]
    return steps_of_curve(schedule, measured_edges(maps, schedule))


def _checked_times(model: MeasuredModel, text: str | None, mode: str, dt: float | None, count: int | None) -> list[float]:
    """The times of an option, or the first `count` timesteps, after all checks of the estimator."""
    from etsdm.analysis import timesteps
    from etsdm.analysis.lipschitz import pairs_for_mode
    from etsdm.errors import PartError, RecipeError

    schedule = model.denoiser.schedule
    times = timesteps(schedule)[:count] if text is None else _parse_times(text, schedule)
    if text is None and count is None and dt is not None:
        times = [time for time in times if time + dt <= schedule.domain[1]]
    try:
        pairs_for_mode(schedule, times, mode, dt)
    except PartError as error:
        raise RecipeError(f"--{error.field}: {error.message}") from None
    return times


def _parse_times(text: str, schedule: Schedule) -> list[float]:
    """Times from `first:end` or `first:end:step`, without the end, or from numbers with commas between them."""
    from etsdm.errors import RecipeError

    try:
        if ":" not in text:
            return [float(number) for number in text.split(",")]
        first, end, *step = (float(number) for number in text.split(":"))
        (length,) = step or [schedule.step]
        # A step that is no binary fraction may seem to fit once more by a rounding.
        count = math.ceil((end - first) / length - 1e-9)
        if not 0 < count <= MAX_TIMES:
            raise ValueError
        return [first + k * length for k in range(count)]
    except (ValueError, ZeroDivisionError, OverflowError):
        raise RecipeError(f"--t: {text!r} are no times; give 0:200, 0:0.2:0.001 or 0,5,10") from None


def _measured(model: MeasuredModel, times: list[float], mode: str, dt: float | None, seed: int, batch_size: int) -> LipschitzCurve:
    from etsdm.analysis import lipschitz_curve
    from etsdm.cli.waiting import progress_bar

    batches = list(model.batches(batch_size))
    with progress_bar(model.label, len(batches), "batches", of=batches) as bar:
        return lipschitz_curve(model.denoiser, bar, times, mode=mode, dt=dt, seed=seed, batch_size=batch_size)


def _files(out: Path) -> list[Path]:
    """The files to write: one, if `out` has its suffix, else two in the folder."""
    from etsdm.errors import RecipeError
    from etsdm.registry import suggestion
    from etsdm.storage.faults import storage_error

    kind = out.suffix.removeprefix(".").lower()
    if not kind and out.is_file():
        raise storage_error(NotADirectoryError(errno.ENOTDIR, "not a folder", str(out)))
    if not kind or out.is_dir():
        return [out / "lipschitz.csv", out / "lipschitz.png"]
    if kind not in ("csv", *PICTURES):
        raise RecipeError(f"--out: {kind!r} is no format of a file; {suggestion(kind, ('csv', *PICTURES), 'formats')}, or give a folder")
    return [out]


def _show(models: Sequence[MeasuredModel], curves: Mapping[str, LipschitzCurve], protocol: dict[str, Any], files: Sequence[Path]) -> None:
    """Writes the CSV file and the figure, and prints a table and their paths."""
    from etsdm.analysis.records import csv_text
    from etsdm.cli.display import console
    from etsdm.errors import RecipeError
    from etsdm.metrics import Curve
    from etsdm.report.figures import curves_picture
    from etsdm.storage.files import write_atomically

    edges = max((one.edges for one in models), key=len)
    of_arms: dict[str, list[Curve]] = {}
    for one in models:
        curve = curves[one.label]
        t, mean, se = (tuple(values.tolist()) for values in (curve.t, curve.mean, curve.se.nan_to_num()))
        label = f"K(t, t'), {curve.mode}, {curve.unit}"
        schedule = one.denoiser.schedule
        drawn = Curve(t=t, mean=mean, se=se, t_label=schedule.t_label, label=label, log_scale=True, log_time=schedule.time_is_noise_level)
        of_arms.setdefault(one.arm, []).append(drawn)
    pictures = [file for file in files if file.suffix != ".csv"]
    if pictures and len({(one.denoiser.schedule.t_label, one.denoiser.schedule.horizon) for one in models}) > 1:
        message = "their schedules have times in different units, which make no common figure"
        raise RecipeError(f"{', '.join(one.label for one in models)}: {message}; give --out FILE.csv or --json, or measure one by one")
    for file in files:
        kind = file.suffix.removeprefix(".").lower()
        write_atomically(file, csv_text(curves, protocol) if kind == "csv" else curves_picture(of_arms, edges, kind))
    console.print(_table(curves, edges))
    for path in files:
        console.print(str(path), soft_wrap=True, highlight=False)


def _table(curves: Mapping[str, LipschitzCurve], edges: Sequence[float]) -> Table:
    """A row for each selected time, a column for each curve."""
    from rich.table import Table

    from etsdm.analysis.records import selected_rows

    first = next(iter(curves.values()))
    table = Table(
        title=f"K(t, t'), {first.mode}, {first.unit}", caption=f"{first.images} images, ± one standard error; all times are in the file"
    )
    table.add_column("t", justify="right")
    for label in curves:
        table.add_column(label, justify="right")
    cells = {
        label: {float(curve.t[k]): _cell(float(curve.mean[k]), float(curve.se[k])) for k in selected_rows(curve, edges)}
        for label, curve in curves.items()
    }
    for t in sorted({t for column in cells.values() for t in column}):
        table.add_row(f"{t:.6g}", *(column.get(t, "") for column in cells.values()))
    return table


def _cell(value: float, se: float) -> str:
    return f"{value:.4g} ± {se:.1g}" if se > 0 else f"{value:.4g}"
