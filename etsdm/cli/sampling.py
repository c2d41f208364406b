"""What `etsdm sample` draws: a checkpoint's denoiser with what the options say of it, checked before anything is written."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import ValidationError
from torch import Tensor

from etsdm.checkpoints.format import read_checkpoint
from etsdm.checkpoints.latest import checkpoint_folder
from etsdm.cli.subjects import part
from etsdm.data.decoding import read_whole_image
from etsdm.data.listing import EXTENSIONS, image_files
from etsdm.denoisers.denoiser import Denoiser
from etsdm.denoisers.wrappers import ClassifierFreeGuidance
from etsdm.devices import resolve_device
from etsdm.errors import DataError, PartError, RecipeError
from etsdm.recipe import Recipe, load_arms
from etsdm.registry import condition_maps, format_errors, samplers, schedules, targets
from etsdm.runs.folder import RunFolder
from etsdm.samplers import DDIM, Parts, Plan, Sampler
from etsdm.sampling import SamplingTask

__all__ = ["Subject", "classes_in_turn", "drawing_of", "parts_of", "plan_of", "sampler_of", "subject_of"]

PROTOCOL_FORMAT = 2  # raise it when the same protocol gives other images


class Subject(NamedTuple):
    """A denoiser that is drawn from.

    Fields: denoiser, in eval mode; guided, the same or what guides it; protocol, JSON values that tell weights, parts and guidance;
    recipe of the run that trained it, None where no run is beside the checkpoint.
    """

    denoiser: Denoiser
    guided: Denoiser | ClassifierFreeGuidance
    protocol: dict[str, Any]
    recipe: Recipe | None


def parts_of(schedule: str, target: str, condition_map: str) -> Parts:
    """The parts that a plan needs, from options."""
    parts = Parts(
        part(schedules, "--schedule", schedule), part(targets, "--target", target), part(condition_maps, "--condition-map", condition_map)
    )
    for problem in parts.condition_map.check(parts.schedule):
        raise RecipeError(f"{'.'.join(['--condition-map', *map(str, problem.location)])}: {problem.message}")
    return parts


def subject_of(checkpoint: Path, condition_map: str | None, guidance: float | None, interval: str | None) -> Subject:
    """A checkpoint's denoiser, or that of the latest of a run's folder, with another condition map or guidance if asked for."""
    folder = checkpoint_folder(checkpoint)
    denoiser, facts, weights = read_checkpoint(folder, resolve_device())
    spec, protocol = denoiser.spec, {"format": PROTOCOL_FORMAT, "weights": weights, "recipe": facts.get("recipe")}
    if condition_map is not None:
        chosen = part(condition_maps, "--condition-map", condition_map)
        try:
            other = spec.model_copy(update={"condition_map": chosen})
        except ValidationError as error:
            problem = format_errors(error)[0]
            raise RecipeError(f"--{problem.field.replace('condition_map', 'condition-map')}: {problem.message}") from None
        protocol["trained_with_condition_map"] = spec.condition_map.model_dump(mode="json")
        denoiser = Denoiser(other, denoiser.backbone, denoiser.first_stage).eval()
    protocol["denoiser"] = denoiser.spec.model_dump(mode="json")
    files = [RunFolder(run).recipe_file for run in list(folder.resolve().parents)[1:2]]
    arms = [load_arms(file) for file in files if file.is_file()]
    recipe = arms[0].recipes[arms[0].as_written] if arms else None
    if guidance is None:
        if interval is not None:
            raise RecipeError("--guidance-interval: nothing is guided; give --guidance")
        return Subject(denoiser, denoiser, protocol, recipe)
    if recipe is not None and denoiser.num_classes == recipe.data.num_classes:
        classes = recipe.data.num_classes
        mend = f"train with num_classes {classes + 1} and a label_dropout"
        raise RecipeError(f"--guidance: the {classes} labels are classes all, and one for no class is needed; {mend}")
    if not math.isfinite(guidance):
        raise RecipeError(f"--guidance: {guidance} is no scale; give a number, 1 for no guidance")
    levels = None if interval is None else _levels(interval)
    protocol["guidance"] = {"scale": guidance, "interval": levels}
    try:
        return Subject(denoiser, ClassifierFreeGuidance(denoiser, guidance, levels), protocol, recipe)
    except PartError as error:
        message = f"--guidance-interval: {error.message}" if error.field == "interval" else f"--guidance: {error}"
        raise RecipeError(message) from None


def _levels(text: str) -> tuple[float, float]:
    try:
        low, high = (float(number) for number in text.split(":"))
    except ValueError:
        raise RecipeError(f"--guidance-interval: {text!r} is no interval; give noise levels as 0.28:2.9") from None
    return low, high


def sampler_of(text: str | None, steps: int | None, recipe: Recipe | None) -> Sampler:
    """The sampler that is asked for, or the recipe's, or else DDIM; with another number of steps if one is given."""
    if text is not None:
        chosen: Sampler = part(samplers, "--sampler", text)
    else:
        chosen = DDIM() if recipe is None else recipe.sampling.sampler
    if steps is None:
        return chosen
    try:
        return chosen.with_steps(steps)
    except PartError as error:
        raise RecipeError(f"--{error.field}: {error.message}") from None


def plan_of(sampler: Sampler, asked: Denoiser | ClassifierFreeGuidance | Parts) -> Plan:
    """The sampler's plan. Raises: RecipeError, naming the option, if the sampler does not suit the denoiser."""
    try:
        sampler.check(asked)
    except PartError as error:
        option = "--steps" if error.field == "steps" else f"--sampler.{error.field}"
        raise RecipeError(f"{option}: {error.message}") from None
    return sampler.plan(asked)


def classes_in_turn(subject: Subject, text: str | None) -> list[int] | None:
    """The labels that images get in turn: those of an option `3`, `0,1,2` or `0:10`, else all classes; None without classes."""
    known = subject.guided.num_classes
    if known is None:
        if text is not None:
            raise RecipeError("--labels: this denoiser knows no classes; leave it out")
        return None
    if text is None:
        # A model with one label more than its data has classes keeps the last for no class.
        return list(range(known if subject.recipe is None else subject.recipe.data.num_classes))
    try:
        numbers = [int(number) for number in text.split(":" if ":" in text else ",")]
        labels = list(range(*numbers)) if ":" in text else numbers
    except (ValueError, TypeError):
        labels = []
    if not labels:
        raise RecipeError(f"--labels: {text!r} are no labels; give 3, 0,1,2 or 0:{known}")
    for label in labels:
        if not 0 <= label < known:
            raise RecipeError(f"--labels: {label} is no class of this denoiser; give 0 to {known - 1}")
    return labels


def drawing_of(
    subject: Subject, sampler: Sampler, seed: int, labels: Sequence[int] | None, low_res: Path | None, chunk: int | None
) -> tuple[SamplingTask, dict[str, Any]]:
    """What is drawn, and its protocol."""
    denoiser = subject.denoiser
    if chunk is not None and denoiser.first_stage is None:
        raise RecipeError("--chunk: this denoiser has no first stage that decodes; leave it out")
    channels = denoiser.spec.image_shape[0]
    if channels not in (1, 3):
        raise RecipeError(f"{channels} channels make no picture, 1 or 3 do; draw with etsdm.sample in Python")
    small = _small_images(denoiser, low_res)
    digest = None if small is None else hashlib.sha256(small.numpy().tobytes()).hexdigest()
    drawn = {"sampler": sampler.model_dump(mode="json"), "seed": seed, "labels": labels, "low_res": digest}
    return SamplingTask(subject.guided, sampler, seed, _cond(labels, small), chunk), {**subject.protocol, **drawn}


def _cond(labels: Sequence[int] | None, small: Tensor | None) -> Callable[[Sequence[int]], dict[str, Tensor]]:
    in_turn: Mapping[str, Tensor | None] = {"y": None if labels is None else torch.tensor(labels), "low_res": small}

    def cond(indices: Sequence[int]) -> dict[str, Tensor]:
        rows = torch.tensor(indices)
        return {name: values[rows % len(values)] for name, values in in_turn.items() if values is not None}

    return cond


def _small_images(denoiser: Denoiser, path: Path | None) -> Tensor | None:
    """The images that are enlarged, in turn: (N, C, H / factor, W / factor), in [-1, 1]."""
    enlarged = denoiser.spec.super_resolution
    if enlarged is None:
        if path is not None:
            raise RecipeError("--low-res: this denoiser enlarges no images; leave it out")
        return None
    if path is None:
        raise RecipeError("--low-res: this denoiser enlarges small images; give a folder of them, or one")
    channels, height, width = denoiser.spec.image_shape
    size = {"width": width // enlarged.factor, "height": height // enlarged.factor}
    try:
        files = [path / name for name in image_files(path)] if path.is_dir() else [path]
        images = [read_whole_image(file, **size, channels=channels) for file in files]
    except DataError as error:
        raise RecipeError(f"--low-res: {error}") from None
    if not images:
        raise RecipeError(f"--low-res: {path} holds no images ({', '.join(EXTENSIONS)}); give a folder of them, or one")
    return torch.stack(images).float() / 127.5 - 1
