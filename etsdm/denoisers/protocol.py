"""The protocol of denoisers: what samplers, losses, estimators and metrics call."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from etsdm.denoisers.config import DenoiserConfig
from etsdm.denoisers.prediction import Prediction
from etsdm.errors import PartError

__all__ = ["DenoiserLike", "refuse_incomplete"]


@runtime_checkable
class DenoiserLike(DenoiserConfig, Protocol):
    """A denoiser: trained (`Denoiser`), exact (`etsdm.theory.ExactDenoiser`), or with something wrapped around it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image, or of whatever is denoised."""

    @property
    def device(self) -> torch.device:
        """The device that it computes on."""

    @property
    def num_classes(self) -> int | None:
        """Number of class labels, None for an unconditional denoiser."""

    def condition(self, t: Tensor) -> Tensor:
        """The value that the network receives as time at t; equal values mean equal outputs at the same x."""

    def noising_time(self, t: Tensor) -> Tensor:
        """The time at which training noises an image that drew t: t itself, unless the condition map shares noise levels too."""

    def output(self, x: Tensor, t: Tensor | float, *, condition_t: Tensor | None = None, **cond: Tensor) -> Tensor:
        """F at (x, t), in the target's space; with `condition_t`, under that time's condition.

        A new tensor at every call, because samplers keep earlier ones.
        """

    def predict(self, x: Tensor, t: Tensor | float, **cond: Tensor) -> Prediction:
        """x0, eps, v and score at (x, t); t may be a `TimePoint`, whose coefficients are then used."""

    def decode(self, x: Tensor, chunk: int | None = None) -> Tensor:
        """Images from what was denoised, `chunk` at a time, in [-1, 1]; of an exact denoiser x itself."""


MEMBERS = (
    *("schedule", "target", "condition_map", "time_input", "bounded", "learns_variance"),
    *("shape", "device", "num_classes", "condition", "noising_time", "output", "predict", "decode"),
)


def refuse_incomplete(denoiser: DenoiserLike) -> None:
    """Raises PartError unless a denoiser has everything of `DenoiserLike`, also behind the properties of a wrapper."""
    missing = [name for name in MEMBERS if not hasattr(denoiser, name)]
    if isinstance(denoiser, type) or missing:
        found = f"the class {denoiser.__name__}" if isinstance(denoiser, type) else f"a {type(denoiser).__name__}"
        lacks = "" if isinstance(denoiser, type) else f", which lacks {', '.join(missing)}"
        raise PartError("denoiser", f"found {found}{lacks}; give a denoiser, from etsdm.load or with all of etsdm.denoisers.DenoiserLike")
