"""`ddpm`: ancestral sampling (Ho et al. 2020; see `etsdm.samplers.ancestral`)."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor

from etsdm.denoisers.config import DenoiserConfig
from etsdm.denoisers.learned_variance import learned_log_variance
from etsdm.denoisers.prediction import Prediction
from etsdm.denoisers.time_point import TimePoint
from etsdm.errors import PartError
from etsdm.grids import Grid, Respaced
from etsdm.registry import samplers
from etsdm.registry.counts import Steps
from etsdm.samplers.ancestral import Ancestral, Coefficients, beta_over_variance

__all__ = ["DDPM"]


@samplers.register("ddpm")
class DDPM(Ancestral):
    """Ancestral sampling with noise of variance beta_t or its posterior value (Ho et al. 2020; paper Eq. 10).

    Attributes:
        steps: how many; None for every timestep up to the start, of a continuous schedule a thousand of them.
        variance: of a step's noise: `beta`, `posterior`, or `learned`, between the two, by a network that learns it.
    """

    steps: Steps | None = None
    variance: Literal["beta", "posterior", "learned"] = "beta"
    grid: Grid = Respaced()

    def check(self, denoiser: DenoiserConfig) -> None:
        """As `Sampler.check`; a learned variance needs a network that learns it."""
        super().check(denoiser)
        if self.variance == "learned" and not denoiser.learns_variance:
            raise PartError("variance", "found 'learned', but the model learns no variance; give beta or posterior")

    def _coefficients(self, t: TimePoint, s: TimePoint) -> Coefficients:
        # Noise of variance beta, except in the last step, which adds none.
        variance = beta_over_variance(t, s) * (s.sigma**2 if self.variance == "posterior" else t.sigma**2 * (s.sigma > 0))
        # sqrt(sigma_s^2 - posterior variance) without its cancellation.
        return Coefficients(s.alpha, t.alpha / s.alpha * s.sigma**2 / t.sigma, math.sqrt(variance))

    def _add_noise(self, x: Tensor, z: Tensor, prediction: Prediction, t: TimePoint, s: TimePoint, c: float) -> None:
        if self.variance != "learned":
            super()._add_noise(x, z, prediction, t, s, c)
            return
        if prediction.variance_logit is None:
            raise PartError("variance", "'learned', but the network learns none; give beta or posterior")
        # c^2 is beta.
        log_beta, log_posterior = (x.new_tensor(2 * math.log(value)) for value in (c, c * s.sigma / t.sigma))
        x.addcmul_((0.5 * learned_log_variance(prediction.variance_logit, log_beta, log_posterior)).exp().to(x.dtype), z)
