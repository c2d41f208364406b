"""A first step of its own, where no signal is left.

At alpha = 0 x is pure noise and noise prediction says nothing of x0. The best x0 there is a mean over all images (of a class), which
a separate model can give (Zhang et al. 2024, "Tackling the Singularities at the Endpoints of Time Intervals in Diffusion Models").
"""

from __future__ import annotations

import torch
from torch import Tensor

from etsdm.denoisers.prediction import Prediction, predicted
from etsdm.denoisers.protocol import Predictor
from etsdm.denoisers.wrappers.base import DenoiserWrapper, Drawable
from etsdm.targets import V

__all__ = ["ZeroSNRStart"]


class ZeroSNRStart(DenoiserWrapper):
    """A denoiser that is replaced by another one where alpha = 0, so that also a noise-predicting one starts there.

    Its target is `v`, which exists at every time, and its output is what the two say in that space.

    Args:
        denoiser: asked wherever alpha > 0.
        first: asked for x0 where alpha = 0; its target is x0 or v, its schedule that of the denoiser. Where the denoiser learns
            the variance of steps and the sampler uses it, so must this one.

    Raises:
        ValueError: `first` says nothing of x0 at alpha = 0, or has another schedule.
    """

    def __init__(self, denoiser: Drawable, first: Predictor) -> None:
        super().__init__(denoiser)
        if first.target.needs_signal:
            raise ValueError(f"first: target {first.target.type_name!r} says nothing of x0 at alpha = 0; give one of x0 or v")
        if first.schedule != denoiser.schedule:
            message = f"its schedule {first.schedule.type_name!r} is not that of the denoiser, {denoiser.schedule.type_name!r}"
            raise ValueError(f"first: {message}; give one of the same schedule and settings")
        self.first = first
        self.target = V()

    def output(self, x: Tensor, t: Tensor | float, *, told: Tensor | None = None, **cond: Tensor) -> Tensor:
        """v at (x, t); see `Denoiser.output`."""
        return self._said(x, t, told, cond).output

    def predict(self, x: Tensor, t: Tensor | float, **cond: Tensor) -> Prediction:
        """What either denoiser predicts at (x, t); see `Denoiser.predict`."""
        return self._said(x, t, None, cond)

    def _said(self, x: Tensor, t: Tensor | float, told: Tensor | None, cond: dict[str, Tensor]) -> Prediction:
        silent = self.schedule.alpha(t) == 0
        if isinstance(t, Tensor) and silent.any() and not silent.all():
            return self._said_by_both(x, t, told, cond, silent.to(x.device))
        denoiser = self.first if silent.any() else self.denoiser
        if told is not None:
            said = predicted(denoiser, x, t, denoiser.output(x, t, told=told, **cond))
            return predicted(self, x, t, said.v)
        said = denoiser.predict(x, t, **cond)
        return predicted(self, said.x, t, said.v, said.variance_logit)

    def _said_by_both(self, x: Tensor, t: Tensor, told: Tensor | None, cond: dict[str, Tensor], silent: Tensor) -> Prediction:
        rows = [mask.nonzero().flatten() for mask in (silent, ~silent)]
        parts = [
            self._said(x[k], t.to(x.device)[k], None if told is None else told.to(x.device)[k], {name: c[k] for name, c in cond.items()})
            for k in rows
        ]
        order = torch.cat(rows).argsort()
        logits = [part.variance_logit for part in parts if part.variance_logit is not None]
        variance_logit = torch.cat(logits)[order] if len(logits) == len(parts) else None
        x, output = (torch.cat(pieces)[order] for pieces in ([part.x for part in parts], [part.output for part in parts]))
        return predicted(self, x, t, output, variance_logit)
