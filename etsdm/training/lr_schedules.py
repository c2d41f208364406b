"""Learning-rate schedules: the learning rate after warm-up, relative to its peak, as a function of images seen."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar

from etsdm.registry import Part, lr_schedules

__all__ = ["ConstantLR", "CosineLR", "LRSchedule"]


class LRSchedule(Part, family=lr_schedules):
    """Learning rate after warm-up, relative to its peak.

    Attributes:
        uses_length: whether the factor depends on `total_images`. Where it does not, a longer training begins as a shorter one does, and
            goes on from its checkpoint.
    """

    uses_length: ClassVar[bool] = True

    @abstractmethod
    def factor(self, images_seen: int, warmup_images: int, total_images: int) -> float:
        """The factor on the peak learning rate.

        Args:
            images_seen: images before this step, `warmup_images` or more.
            warmup_images: images at the end of the warm-up.
            total_images: images at the end of training.
        """


@lr_schedules.register("constant")
class ConstantLR(LRSchedule):
    """The peak learning rate throughout."""

    uses_length: ClassVar[bool] = False

    def factor(self, images_seen: int, warmup_images: int, total_images: int) -> float:
        """1."""
        return 1.0


@lr_schedules.register("cosine")
class CosineLR(LRSchedule):
    """Half a cosine from the peak to 0 at the end of training (Loshchilov and Hutter 2017, Eq. 5, without restarts)."""

    def factor(self, images_seen: int, warmup_images: int, total_images: int) -> float:
        """(1 + cos(pi p)) / 2, with p the share of the images after warm-up that are seen."""
        progress = (images_seen - warmup_images) / max(total_images - warmup_images, 1)
        return 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
