"""Cost of a run in operations, memory and disk, counted without allocating a weight.

    training     a step costs three forward evaluations an image, of which the backward pass is two, or four with gradient
                 checkpointing; and as much again for each further evaluation that the loss makes
    sampling     the network calls of each sampler, an evaluation an image each
    memory       in training four bytes a parameter each for weights, gradients, the two moments of Adam and the moving average,
                 and what the backbone keeps of a batch for the backward pass (`etsdm.backbones.summary`), which with gradient
                 checkpointing is most while the block with the largest insides is gone through; attention by a fused kernel,
                 where `math` would keep its weights too

An encoder's share of training and a decoder's of sampling, where there is a first stage, are counted with the images they see.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from pydantic import NonNegativeInt
from torch.utils.flop_counter import FlopCounterMode

from etsdm.backbones.first_stages import FirstStage
from etsdm.recipe import Recipe
from etsdm.registry import Frozen
from etsdm.runs.stages import StagePlan

__all__ = ["FLOPS_PER_SECOND", "Cost", "SamplingCost", "Work", "cost_of", "step_flops", "work"]

FLOPS_PER_SECOND = 100e12  # to which times are referred: about a third of an A100's peak in bfloat16, 312e12; in float32 it is 19.5e12
FLOAT32_BYTES = 4
COPIES_IN_TRAINING = 5  # weights, gradients, two moments, moving average
COPIES_ON_DISK = 4  # all of them but the gradients


class SamplingCost(Frozen):
    """Cost of one set of samples. Fields: nfe, network calls of one sample; images; flops, floating-point operations for all of them."""

    nfe: NonNegativeInt
    images: NonNegativeInt
    flops: NonNegativeInt


class Cost(Frozen):
    """Cost of one run of a recipe.

    Attributes:
        parameters: of the backbone.
        first_stage_parameters: of the first stage, 0 without one.
        flops: floating-point operations of one forward evaluation of one image by the backbone.
        training_images, training_flops: images seen, and operations for all of them.
        samplings: of each set of samples, by name.
        training_state: bytes of weights, gradients, moments and moving average.
        gradient_checkpointing: whether the activations are counted with it, as `compute` of the recipe says.
        activations: bytes that the backbone keeps of a batch for the backward pass, the most at a time; what that pass allocates for
            gradients comes on top.
        checkpoint: bytes of one checkpoint on disk.
    """

    parameters: NonNegativeInt
    first_stage_parameters: NonNegativeInt
    flops: NonNegativeInt
    training_images: NonNegativeInt
    training_flops: NonNegativeInt
    samplings: dict[str, SamplingCost]
    training_state: NonNegativeInt
    gradient_checkpointing: bool
    activations: NonNegativeInt
    checkpoint: NonNegativeInt

    @property
    def training_days(self) -> float:
        """Days of training at `FLOPS_PER_SECOND`."""
        return self.training_flops / FLOPS_PER_SECOND / 86400

    @property
    def sampling_flops(self) -> int:
        """Operations of all samplings."""
        return sum(sampling.flops for sampling in self.samplings.values())

    @property
    def sampling_days(self) -> float:
        """Days of sampling at `FLOPS_PER_SECOND`."""
        return self.sampling_flops / FLOPS_PER_SECOND / 86400


class Work(Frozen):
    """Work of several runs.

    Attributes:
        trainings, samplings: how many, a training that runs share once.
        training_images, training_flops: of the trainings.
        sampled_images, sampling_flops: of the samplings.
    """

    trainings: NonNegativeInt = 0
    training_images: NonNegativeInt = 0
    training_flops: NonNegativeInt = 0
    samplings: NonNegativeInt = 0
    sampled_images: NonNegativeInt = 0
    sampling_flops: NonNegativeInt = 0

    @property
    def flops(self) -> int:
        """Operations of all."""
        return self.training_flops + self.sampling_flops


def work(planned: Iterable[tuple[str, Cost, Sequence[StagePlan]]], *, left: bool) -> Work:
    """Adds up the work of several runs, metrics left out.

    Args:
        planned: of each run the digest of its training, its cost, and its stages.
        left: count what is left of each stage, else all of it.
    """
    trained, total = set(), Counter[str]()
    for digest, cost, stages in planned:
        for stage in stages:
            images = stage.total - stage.done if left else stage.total
            if stage.kind == "train" and digest not in trained:
                trained.add(digest)
                total["trainings"] += images > 0
                total["training_images"] += images
                total["training_flops"] += cost.training_flops * images // stage.total
            elif stage.kind == "sample":
                total["samplings"] += images > 0
                total["sampled_images"] += images
                total["sampling_flops"] += cost.samplings[stage.name].flops * images // stage.total
    return Work(**total)


class _Coders(NamedTuple):
    parameters: int
    encoder: int
    decoder: int


def cost_of(recipe: Recipe) -> Cost:
    """Counts the cost of one run of a recipe, on the meta device, where a tensor is a shape."""
    training = recipe.training
    summary = recipe.model.backbone.summary(training.batch_size)
    coders = _coders(recipe.model.first_stage)
    checkpointing, evaluations = recipe.compute.gradient_checkpointing, training.loss.evaluations
    # All evaluations of a step are kept until its backward pass.
    kept = evaluations * summary.checkpointed + summary.peak_recompute if checkpointing else evaluations * summary.activations
    samplings = {}
    for name, sampling in recipe.samplings.items():
        nfe = sampling.sampler.plan(recipe.model).nfe
        flops = sampling.n * (nfe * summary.flops + coders.decoder)
        samplings[name] = SamplingCost(nfe=nfe, images=sampling.n, flops=flops)
    first_stage = FLOAT32_BYTES * coders.parameters
    return Cost(
        parameters=summary.parameters,
        first_stage_parameters=coders.parameters,
        flops=summary.flops,
        training_images=training.images,
        training_flops=training.images * (step_flops(recipe, summary.flops) + coders.encoder),
        samplings=samplings,
        training_state=COPIES_IN_TRAINING * FLOAT32_BYTES * summary.parameters + first_stage,
        gradient_checkpointing=checkpointing,
        activations=kept,
        checkpoint=COPIES_ON_DISK * FLOAT32_BYTES * summary.parameters + first_stage,
    )


def step_flops(recipe: Recipe, forward: int) -> int:
    """Operations of a training step for one image, a first stage left out. Args: forward: those of one forward evaluation."""
    return recipe.training.loss.evaluations * (4 if recipe.compute.gradient_checkpointing else 3) * forward


def _coders(spec: FirstStage | None) -> _Coders:
    """Parameters of a first stage, and its operations for one image."""
    if spec is None:
        return _Coders(0, 0, 0)
    with torch.device("meta"), torch.no_grad():
        network = spec.build()
        images = torch.empty(1, *spec.image_shape)
        with FlopCounterMode(display=False) as encoder:
            network.encode(images)
        with FlopCounterMode(display=False) as decoder:
            network.decode(torch.empty(1, *spec.latent_shape))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return _Coders(parameters, encoder.get_total_flops(), decoder.get_total_flops())
