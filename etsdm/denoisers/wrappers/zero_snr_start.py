"""A separate first step where no signal is left.

At alpha = 0 x is pure noise and noise prediction does not determine x0. The best x0 there is a mean over all images (of a class), which
a separate model can give (Zhang et al. 2024, "Tackling the Singularities at the Endpoints of Time Intervals in Diffusion Models").
"""

from __future__ import annotations

import torch
from torch import Tensor

from etsdm.denoisers.prediction import Prediction
from etsdm.denoisers.protocol import DenoiserLike
from etsdm.denoisers.wrappers.base import DenoiserWrapper
from etsdm.targets import V

__all__ = ["ZeroSNRStart"]


class ZeroSNRStart(DenoiserWrapper):
    """A denoiser that is replaced by another one where alpha = 0, so that also noise prediction starts there.

    Its target is `v`, which exists at every time; its output is what either of the two predicts, in that space.

    Args:
        denoiser: called wherever alpha > 0.
        first: called where alpha = 0; its target is x0 or v, its schedule that of the denoiser. Where the denoiser learns the
            variance of steps and the sampler uses it, so must this one.

    Raises:
        ValueError: `first` does not determine x0 at alpha = 0, or has another schedule.
    """

    def __init__(self, denoiser: DenoiserLike, first: DenoiserLike) -> None:
        super().__init__(denoiser)
        if first.target.needs_signal:
            raise ValueError(f"first: target {first.target.type_name!r} does not determine x0 at alpha = 0; give one of x0 or v")
        if first.schedule != denoiser.schedule:
            message = f"its schedule {first.schedule.type_name!r} is not that of the denoiser, {denoiser.schedule.type_name!r}"
            raise ValueError(f"first: {message}; give one of the same schedule and settings")
        self.first = first
        self.target = V()

    def output(self, x: Tensor, t: Tensor | float, *, condition_t: Tensor | None = None, **cond: Tensor) -> Tensor:
        """v at (x, t); see `Denoiser.output`."""
        return self._predict(x, t, condition_t, cond).output

    def predict(self, x: Tensor, t: Tensor | float, **cond: Tensor) -> Prediction:
        """The prediction of either denoiser at (x, t); see `Denoiser.predict`."""
        return self._predict(x, t, None, cond)

    def _predict(self, x: Tensor, t: Tensor | float, condition_t: Tensor | None, cond: dict[str, Tensor]) -> Prediction:
        no_signal = self.schedule.alpha(t) == 0
        if isinstance(t, Tensor) and no_signal.any() and not no_signal.all():
            return self._predict_by_both(x, t, condition_t, cond, no_signal.to(x.device))
        denoiser = self.first if no_signal.any() else self.denoiser
        if condition_t is not None:
            output = denoiser.output(x, t, condition_t=condition_t, **cond)
            return Prediction.from_output(self, x, t, Prediction.from_output(denoiser, x, t, output).v)
        prediction = denoiser.predict(x, t, **cond)
        return Prediction.from_output(self, prediction.x, t, prediction.v, prediction.variance_logit)

    def _predict_by_both(self, x: Tensor, t: Tensor, condition_t: Tensor | None, cond: dict[str, Tensor], no_signal: Tensor) -> Prediction:
        rows = [mask.nonzero().flatten() for mask in (no_signal, ~no_signal)]
        t = t.to(x.device)
        condition_t = None if condition_t is None else condition_t.to(x.device)
        parts = [
            self._predict(x[k], t[k], None if condition_t is None else condition_t[k], {name: c[k] for name, c in cond.items()})
            for k in rows
        ]
        order = torch.cat(rows).argsort()
        logits = [part.variance_logit for part in parts if part.variance_logit is not None]
        variance_logit = torch.cat(logits)[order] if len(logits) == len(parts) else None
        x, output = (torch.cat(pieces)[order] for pieces in ([part.x for part in parts], [part.output for part in parts]))
        return Prediction.from_output(self, x, t, output, variance_logit)
