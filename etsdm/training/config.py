"""`Training`: the training section of a recipe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, PositiveFloat, model_validator

from etsdm.data import Augmentation
from etsdm.losses import MSE, Loss, TimeSampler, Uniform
from etsdm.registry import Frozen, field_error
from etsdm.registry.counts import BatchSize, ImageCount, ImagesSeen, TrainingImages
from etsdm.registry.paths import FilePath
from etsdm.training.ema import EMA, PerStepEMA
from etsdm.training.lr_schedules import ConstantLR, LRSchedule
from etsdm.training.optimizers import Adam, Optimizer

__all__ = ["Training"]


def _per_step(value: Any) -> Any:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return {"type": "per-step", "decay": value} if is_number else value


def _share_of_images(parts: int, most: int) -> Callable[[dict[str, Any]], int]:
    """The default of an interval: one of so many equal parts of `images`, and at most `most` images."""
    return lambda fields: max(1, min(fields.get("images", most) // parts, most))


class Training(Frozen):
    """Length, loss, optimizer and learning rate of a training, whose progress is counted in images seen.

    Attributes:
        images: images seen in the whole training.
        batch_size: images per step.
        loss, time_sampler: the loss, and the distribution of the times at which it is taken.
        optimizer: the update rule.
        learning_rate: its peak.
        lr_schedule: the learning rate after warm-up, relative to the peak.
        warmup_images: images over which the learning rate rises linearly from 0.
        gradient_clip: largest norm of the gradient, None for no limit.
        label_dropout: probability of replacing an image's label by the null class, the model's last label, for classifier-free guidance.
        flip: mirrors each training image left and right with probability 1/2.
        random_crop: smallest side of a random square of each training image, as a share of its shorter side; None for the middle square of
            the whole side. Only for images that are decoded as they are read.
        ema: moving average of the weights; a bare number is the decay of `per-step`.
        log_every, checkpoint_every: images between log records and between checkpoints; by default a hundredth and a tenth of the
            training, and at most 10,000 and 100,000 images.
        keep_checkpoints: number of latest checkpoints that are kept.
        first_stage_weights: safetensors file with the state dict of the first stage, which is not trained; relative to the recipe's file.
    """

    images: TrainingImages
    batch_size: BatchSize = 128
    loss: Loss = MSE()
    time_sampler: TimeSampler = Uniform()
    optimizer: Optimizer = Adam()
    learning_rate: PositiveFloat = 1e-4
    lr_schedule: LRSchedule = ConstantLR()
    warmup_images: ImagesSeen = 0
    gradient_clip: PositiveFloat | None = None
    label_dropout: float = Field(0.0, ge=0, lt=1)
    flip: bool = False
    random_crop: float | None = Field(None, gt=0, le=1)
    ema: Annotated[EMA, BeforeValidator(_per_step, json_schema_input_type=EMA | float)] = PerStepEMA()
    log_every: TrainingImages = Field(default_factory=_share_of_images(100, most=10_000))
    checkpoint_every: TrainingImages = Field(default_factory=_share_of_images(10, most=100_000))
    keep_checkpoints: ImageCount = 2
    first_stage_weights: FilePath | None = None

    @model_validator(mode="after")
    def _warmup_ends(self) -> Self:
        if self.warmup_images > self.images:
            message = f"{self.warmup_images} images of warm-up are more than the {self.images} of the training; give fewer"
            raise field_error("Training", ("warmup_images",), message, self.warmup_images)
        return self

    @property
    def augmentation(self) -> Augmentation:
        """Random changes of the training images."""
        return Augmentation(self.flip, self.random_crop)

    def learning_rate_at(self, images_seen: int) -> float:
        """The learning rate of the step that begins after `images_seen` images."""
        if images_seen < self.warmup_images:
            # The first step has a share of the peak above 0, the first one after warm-up the whole.
            return self.learning_rate * (images_seen + self.batch_size) / (self.warmup_images + self.batch_size)
        return self.learning_rate * self.lr_schedule.factor(images_seen, self.warmup_images, self.images)
