"""`Training`: how the weights are found."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from etsdm.losses import MSE, Loss, TimeSampler, Uniform
from etsdm.registry import Frozen, field_error

__all__ = ["Training"]


class Training(Frozen):
    """How the weights are found; progress is counted in images seen, and learning rate and data order are functions of it.

    Attributes:
        images: images seen over the whole training.
        batch_size: images in a step.
        loss, time_sampler: what is minimised, and at which times.
        optimizer, learning_rate, betas, weight_decay: of torch's optimiser of that name.
        warmup: images over which the learning rate rises linearly from 0.
        decay: what it does afterwards: `none`, or `cosine` to 0 at the end.
        gradient_clip: largest norm of the gradient, None for no limit.
        label_dropout: probability with which an image's label becomes the model's last one, that of no class, for guidance.
        ema: decay of the moving average of the weights, per step.
        log_every, checkpoint_every: images between records and between checkpoints.
        keep_checkpoints: how many of the latest are kept.
        first_stage_weights: a safetensors file with the state dict of the model's first stage, which training leaves as it is.
    """

    images: PositiveInt
    batch_size: PositiveInt = 128
    loss: Loss = MSE()
    time_sampler: TimeSampler = Uniform()
    optimizer: Literal["adam", "adamw"] = "adam"
    learning_rate: PositiveFloat = 1e-4
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    weight_decay: NonNegativeFloat = 0.0
    warmup: NonNegativeInt = 0
    decay: Literal["none", "cosine"] = "none"
    gradient_clip: PositiveFloat | None = None
    label_dropout: float = Field(0.0, ge=0, lt=1)
    ema: float = Field(0.9999, ge=0, lt=1)
    log_every: PositiveInt = 10_000
    checkpoint_every: PositiveInt = 100_000
    keep_checkpoints: PositiveInt = 2
    first_stage_weights: str | None = None

    @model_validator(mode="after")
    def _warmup_ends(self) -> Self:
        if self.warmup > self.images:
            message = f"{self.warmup} images of warm-up are more than the {self.images} of the training; give fewer"
            raise field_error("Training", ("warmup",), message, self.warmup)
        return self
