"""Wrappers: denoisers around a denoiser, with its protocol, so that every sampler and estimator takes them as they are.

A wrapper delegates what it does not change: schedule, condition map and decoding stay those of the denoiser inside, and
coefficients those of the true time. A condition that a wrapper holds for each image, such as labels, is one row for all images, or as
many rows as there are images in a batch. A call of a wrapper is one network call to a sampler, whatever it does inside.
"""

from __future__ import annotations

import torch
from torch import Tensor

from etsdm.condition_maps import ConditionMap, TimeInput
from etsdm.denoisers.prediction import Prediction
from etsdm.denoisers.protocol import DenoiserLike, refuse_incomplete
from etsdm.errors import PartError
from etsdm.schedules import Schedule
from etsdm.targets import Target

__all__ = ["DenoiserWrapper", "on_device", "rows_for", "wide_images"]


class DenoiserWrapper:
    """A denoiser that delegates to another one.

    Args:
        denoiser: trained, exact, or a wrapper itself.
    """

    schedule: Schedule
    target: Target
    condition_map: ConditionMap
    time_input: TimeInput

    def __init__(self, denoiser: DenoiserLike) -> None:
        refuse_incomplete(denoiser)
        self.denoiser = denoiser
        self.schedule = denoiser.schedule
        self.target = denoiser.target
        self.condition_map = denoiser.condition_map
        self.time_input = denoiser.time_input

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image, or of whatever is denoised."""
        return self.denoiser.shape

    @property
    def device(self) -> torch.device:
        """The device that it computes on."""
        return self.denoiser.device

    @property
    def bounded(self) -> bool:
        """Whether clean x lie in [-1, 1]."""
        return self.denoiser.bounded

    @property
    def learns_variance(self) -> bool:
        """Whether predictions carry a variance for sampling steps."""
        return self.denoiser.learns_variance

    @property
    def num_classes(self) -> int | None:
        """Number of class labels that a call may choose from, None where it takes no label."""
        return self.denoiser.num_classes

    @property
    def rows(self) -> int:
        """Batch size that the conditions held here or inside are for; 1 for any."""
        return self.denoiser.rows if isinstance(self.denoiser, DenoiserWrapper) else 1

    def decode(self, x: Tensor, chunk: int | None = None) -> Tensor:
        """Images from what was denoised, `chunk` at a time."""
        return self.denoiser.decode(x, chunk)

    def condition(self, t: Tensor) -> Tensor:
        """The value that the network receives as time at t, same shape."""
        return self.denoiser.condition(t)

    def noising_time(self, t: Tensor) -> Tensor:
        """The time at which training noises an image that drew t, same shape."""
        return self.denoiser.noising_time(t)

    def output(self, x: Tensor, t: Tensor | float, *, condition_t: Tensor | None = None, **cond: Tensor) -> Tensor:
        """F at (x, t), in the target's space; see `Denoiser.output`."""
        return self.denoiser.output(x, t, condition_t=condition_t, **cond)

    def predict(self, x: Tensor, t: Tensor | float, **cond: Tensor) -> Prediction:
        """x0, eps, v and score at (x, t); see `Denoiser.predict`."""
        return self.denoiser.predict(x, t, **cond)


def rows_for(x: Tensor, name: str, value: Tensor) -> Tensor:
    """A condition expanded to the rows of x, on its device. Raises: ValueError unless it has one row, or as many as x."""
    if len(value) not in (1, len(x)):
        raise ValueError(f"{name}: found {len(value)} rows for a batch of {len(x)}; give one, or one for each image")
    return value.to(x.device).expand(len(x), *value.shape[1:])


def wide_images(images: object) -> Tensor:
    """Images in single precision or better, in which coefficients such as 1/alpha do not overflow.

    Raises:
        PartError: they are no tensor of floating-point numbers, or not finite.
    """
    if not isinstance(images, Tensor):
        raise PartError("images", f"found a {type(images).__name__}; give a tensor, as torch.as_tensor makes it")
    if not images.is_floating_point():
        found = str(images.dtype).removeprefix("torch.")
        raise PartError("images", f"found {found}; give floating-point numbers in [-1, 1], as pixels / 127.5 - 1")
    if not images.isfinite().all():
        raise PartError("images", "hold values that are not finite; leave those images out")
    return images.to(torch.promote_types(images.dtype, torch.float32))


def on_device(denoiser: DenoiserLike, x: Tensor, cond: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Images and conditions on the denoiser's device."""
    return x.to(denoiser.device), {name: value.to(denoiser.device) for name, value in cond.items()}
