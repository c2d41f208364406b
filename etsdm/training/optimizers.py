"""Learning rate and optimiser, as functions of images seen."""

from __future__ import annotations

import math

import torch
from torch import nn

from etsdm.training.config import Training

__all__ = ["learning_rate", "make_optimizer"]


def learning_rate(training: Training, images_seen: int) -> float:
    """The learning rate of the step that begins after `images_seen` images.

    Args:
        training: peak, warm-up, decay and length.
        images_seen: images before this step.
    """
    if images_seen < training.warmup:
        return training.learning_rate * (images_seen + training.batch_size) / (training.warmup + training.batch_size)
    if training.decay == "none":
        return training.learning_rate
    progress = (images_seen - training.warmup) / max(training.images - training.warmup, 1)
    return training.learning_rate * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def make_optimizer(network: nn.Module, training: Training) -> torch.optim.Optimizer:
    """torch's optimiser of that name, in its fused form."""
    kinds: dict[str, type[torch.optim.Adam]] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    return kinds[training.optimizer](
        network.parameters(),
        lr=training.learning_rate,
        betas=training.betas,
        weight_decay=training.weight_decay,
        fused=True,
    )
