"""What `etsdm lipschitz` measures: an exact optimum, a checkpoint, or the arms of a recipe, each with images to noise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import ValidationError
from torch import Tensor

from etsdm.analysis.modes import Measurable
from etsdm.condition_maps import ConditionMap, Identity, Intervals
from etsdm.data import Dataset
from etsdm.denoisers.denoiser import Denoiser
from etsdm.devices import resolve_device
from etsdm.errors import CheckpointError, RecipeError
from etsdm.experiment import build
from etsdm.randomness import generator
from etsdm.recipe import load_arms
from etsdm.recipe.tree import COMMAND_LINE
from etsdm.recipe.yaml import compose
from etsdm.registry import Registry, condition_maps, datasets, format_errors, schedules, suggestion, targets
from etsdm.runs.folder import RunFolder
from etsdm.theory import MIXTURES, ExactDenoiser
from etsdm.zoo.load import load

__all__ = ["Subject", "exact_subjects", "of_checkpoint", "of_recipe", "part"]

SHOWN_AT_A_TIME = 64  # images that go through a first stage together


class Subject(NamedTuple):
    """A denoiser to measure.

    Fields: label; arm, whose curves are drawn as one; denoiser; images, clean, (N, ...); cond, what the network takes besides; facts,
    the protocol of this one; edges of the sub-intervals of its condition map.
    """

    label: str
    arm: str
    denoiser: Measurable
    images: Tensor
    cond: dict[str, Tensor]
    facts: dict[str, Any]
    edges: tuple[float, ...]


def part(registry: Registry[Any], option: str, text: str) -> Any:
    """A part from an option: its name, or a YAML mapping `{type: ..., ...}`. Raises: RecipeError naming the option and the field."""
    node = compose(text, lambda line: COMMAND_LINE, (option,))
    try:
        return registry.parse(None if node is None else node.plain)
    except ValidationError as error:
        problems = [f"{'.'.join([option, problem.field])}: {problem.message}" for problem in format_errors(error)]
        raise RecipeError("\n".join(problems)) from None
    except ValueError as error:
        raise RecipeError(f"{option}: {error}") from None


def exact_subjects(name: str, schedule: str, target: str, condition_map: str, *, n: int, seed: int) -> list[Subject]:
    """The exact optimum for a mixture without and with a condition map, on the same samples; the asked-for one is the last."""
    if name not in MIXTURES:
        raise RecipeError(f"--exact: {name!r} is no mixture; {suggestion(name, MIXTURES, 'mixtures')}")
    mixture, noise = MIXTURES[name], part(schedules, "--schedule", schedule)
    predicted, asked = part(targets, "--target", target), part(condition_maps, "--condition-map", condition_map)
    for problem in asked.check(noise):
        raise RecipeError(f"{'.'.join(['--condition-map', *map(str, problem.location)])}: {problem.message}")
    samples = mixture.sample(n, generator(seed, "lipschitz/samples"))
    maps = [asked] if asked == Identity() else [Identity(), asked]
    return [
        Subject(
            one.type_name,
            one.type_name,
            ExactDenoiser(mixture, noise, target=predicted, condition_map=one),
            samples,
            {},
            {"exact": name, **_parts(noise, predicted, one)},
            _edges(one),
        )
        for one in maps
    ]


def of_checkpoint(folder: Path, data: str | None, n: int) -> Subject:
    """A checkpoint, or the latest of a run's folder, on the training images of its run or of a data set that is named."""
    denoiser = load(folder, resolve_device())
    source = _data_of(folder) if data is None else part(datasets, "--data", data)
    if source.shape != denoiser.spec.image_shape:
        sizes = ("x".join(map(str, shape)) for shape in (source.shape, denoiser.spec.image_shape))
        raise RecipeError(
            "--data: images of {!r} are {}, but the denoiser takes {}; give another data set".format(source.type_name, *sizes)
        )
    return _trained(str(folder), str(folder), denoiser, source, n)


def of_recipe(recipe: str, overrides: Sequence[str], runs: Path, n: int) -> tuple[list[Subject], str]:
    """The trained runs of a recipe, and the label of the one that is as the recipe is written."""
    experiment = build(recipe, *overrides, out=runs)
    for run in experiment.runs:
        if not run.is_done("train"):
            command = " ".join(["etsdm run", recipe, *overrides, *([] if runs == Path("runs") else ["--out", str(runs)])])
            raise CheckpointError(f"{run.label}: is not trained in {run.folder.path}; run `{command} --arm {run.arm} --stage train` first")
    main = next(run for run in experiment.runs if run.recipe is experiment.recipe)
    return [_trained(run.label, run.arm, run.load_denoiser(), run.recipe.data, n) for run in experiment.runs], main.label


def _trained(label: str, arm: str, denoiser: Denoiser, data: Dataset, n: int) -> Subject:
    images, spec = data.open("train"), denoiser.spec
    chosen = images.batch(range(min(n, len(images))))
    facts = {**_parts(spec.schedule, spec.target, spec.condition_map), "data": data.model_dump(mode="json"), "images": chosen.digest()}
    shown = [denoiser.prepare_batch(images.pixels, images.labels) for _, images in chosen.batches(SHOWN_AT_A_TIME)]
    x0 = torch.cat([x for x, _ in shown])
    cond = {key: torch.cat([given[key] for _, given in shown]) for key in shown[0][1]}
    return Subject(label, arm, denoiser, x0, cond, facts, _edges(spec.condition_map))


def _data_of(folder: Path) -> Dataset:
    """The data set of the run that a checkpoint lies in: `run/checkpoints/<images seen>`."""
    for run in (folder, folder.resolve().parents[1]):
        if (file := RunFolder(run).recipe_file).is_file():
            arms = load_arms(file)
            return arms.recipes[arms.as_written].data
    raise CheckpointError(f"{folder}: has no recipe.yaml beside it that names its training data; give --data (`etsdm parts datasets`)")


def _parts(*parts: Any) -> dict[str, Any]:
    return dict(zip(("schedule", "target", "condition_map"), (one.model_dump(mode="json") for one in parts), strict=True))


def _edges(condition_map: ConditionMap) -> tuple[float, ...]:
    return condition_map.edges if isinstance(condition_map, Intervals) else ()
