"""`ddim`: denoising diffusion implicit models (Song et al. 2021; see `etsdm.samplers.ancestral`)."""

from __future__ import annotations

import math

from pydantic import Field

from etsdm.denoisers.time_point import TimePoint
from etsdm.registry import samplers
from etsdm.registry.counts import Steps
from etsdm.samplers.ancestral import Ancestral, Coefficients, beta_over_variance

__all__ = ["DDIM"]


@samplers.register("ddim")
class DDIM(Ancestral):
    """Denoising diffusion implicit models: deterministic at eta = 0, DDPM's posterior at eta = 1 (Song et al. 2021).

    Attributes:
        eta: noise of a step, relative to that of DDPM's posterior; 0 for none.
    """

    steps: Steps = 50
    eta: float = Field(0.0, ge=0, le=1)

    def _coefficients(self, t: TimePoint, s: TimePoint) -> Coefficients:
        z = self.eta * s.sigma * math.sqrt(beta_over_variance(t, s)) if self.eta else 0.0
        return Coefficients(s.alpha, math.sqrt(max(s.sigma**2 - z**2, 0.0)), z)
