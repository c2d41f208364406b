"""The measured time of one training step on this machine.

    rate = FLOPs of the step / its seconds,    time of what is left = FLOPs of what is left / rate

The step is a real one, of the recipe's network, loss and optimizer, on noise in place of images, without a first stage and not compiled.
It has the recipe's batch, or as many images as keep it below `LONGEST_STEP_S` and in half of the memory; where one image is too many, or
the weights alone, nothing is measured.
"""

from __future__ import annotations

import time
import warnings

import torch
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from etsdm.backbones.size import machine_memory
from etsdm.data import LoadedImages
from etsdm.devices import resolve_device
from etsdm.errors import EtsdmError, PartError
from etsdm.randomness import generator
from etsdm.recipe import Recipe
from etsdm.registry import Frozen
from etsdm.runs.cost import Cost, step_flops
from etsdm.runs.threads import threads_set
from etsdm.training import Trainer

__all__ = ["LONGEST_STEP_S", "StepTime", "time_step"]

LONGEST_STEP_S = 3.0
SLOWEST = {"cpu": 10e9, "cuda": 2e12}  # FLOP/s in float32 that a thread of a CPU, or a GPU, has at least
SLOWEST_WEIGHTS = {"cpu": 50e6, "cuda": 500e6}  # parameters that are initialised and updated in a second at least
MEMORY_SHARE = 0.5
GRADIENTS_OF_ACTIVATIONS = 2  # memory of activations with the gradients that the backward pass makes of them


class StepTime(Frozen):
    """Time of one training step.

    Attributes:
        device, threads: where it was measured.
        images: of the measured step, at most those of the recipe's batch.
        seconds: of the measured step, None where it was not measured.
        flops_per_second: of that step.
        reason: why it was not measured, None if it was.
    """

    device: str
    threads: PositiveInt
    images: NonNegativeInt
    seconds: PositiveFloat | None = None
    flops_per_second: PositiveFloat | None = None
    reason: str | None = None


def time_step(recipe: Recipe, cost: Cost, threads: int) -> StepTime:
    """Measures a training step, after one that is not measured.

    Args:
        recipe: of one arm.
        cost: result of `cost_of(recipe)`.
        threads: CPU threads of a run.
    """
    try:
        device = resolve_device(recipe.compute.device)
        recipe.model.check_memory()
        images, reason = _affordable(recipe, cost, device, threads)
        unmeasured = StepTime(device=device.type, threads=threads, images=0, reason=reason)
        return unmeasured if reason else _measure(recipe, cost, device, threads, images)
    except (EtsdmError, PartError, RuntimeError) as error:  # torch raises the last, out of memory or without a kernel
        return StepTime(device=recipe.compute.device, threads=threads, images=0, reason=str(error).splitlines()[0])


def _affordable(recipe: Recipe, cost: Cost, device: torch.device, threads: int) -> tuple[int, str | None]:
    """Images of a step that is short and fits memory, or the reason why not even one does."""
    batch = recipe.training.batch_size
    flops, rate = step_flops(recipe, cost.flops), SLOWEST[device.type] * (threads if device.type == "cpu" else 1)
    if flops > LONGEST_STEP_S * rate:
        found = f"{flops / 1e9:,.0f} GFLOP for one image would take {flops / rate:,.0f} s at {rate / 1e9:,.0f} GFLOP/s"
        return 0, f"{found}, the least that is expected of this {device.type}"
    if cost.parameters > LONGEST_STEP_S * SLOWEST_WEIGHTS[device.type]:
        return 0, f"{cost.parameters:,} parameters would take more than {LONGEST_STEP_S:g} s to initialise and update"
    memory = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else machine_memory()
    per_image = GRADIENTS_OF_ACTIVATIONS * cost.activations / batch
    room = float("inf") if memory is None else MEMORY_SHARE * memory - cost.training_state
    if room < per_image:
        needed = cost.training_state + per_image
        return 0, f"{needed / 1e9:,.1f} GB for one image are more than half of the {(memory or 0) / 1e9:,.1f} GB of memory"
    return int(min(batch, LONGEST_STEP_S * rate / max(flops, 1), room / max(per_image, 1))), None


def _measure(recipe: Recipe, cost: Cost, device: torch.device, threads: int, images: int) -> StepTime:
    model = recipe.model.model_copy(update={"first_stage": None})
    training = recipe.training.model_copy(update={"images": 2 * images, "batch_size": images, "warmup_images": 0})
    noise = torch.randn(images, *model.image_shape, generator=generator(0, "cost/images")) / 2
    with threads_set(threads), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = Trainer(model, training, LoadedImages(noise, torch.zeros(images, dtype=torch.long)), seed=0, device=device)
        recipe.compute.model_copy(update={"compile": False}).prepare(trainer.denoiser.backbone)
        trainer.step()  # allocates
        _wait(device)
        clock = time.perf_counter()
        trainer.step()
        _wait(device)
        seconds = time.perf_counter() - clock
    rate = images * step_flops(recipe, cost.flops) / seconds
    return StepTime(device=device.type, threads=threads, images=images, seconds=seconds, flops_per_second=rate)


def _wait(device: torch.device) -> None:
    """Waits for what was started on a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
