"""Loss weightings by noise level.

Articles state a weight for the squared error of one quantity. In another space S, where an error dS is c_out dS of x0 and e_out dS of
eps (see `etsdm.targets`), the same loss has the weight

    w_S = c_out^2 w_x0 = e_out^2 w_eps,      e_out^2 = SNR c_out^2,

so a weighting means the same training for every prediction target and every space of the error.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor

from etsdm.registry import Part, weightings
from etsdm.targets import Target

__all__ = ["P2", "Constant", "MinSNR", "Weighting"]


class Weighting(Part, family=weightings):
    """Weight of the squared error as a function of the noise level."""

    @abstractmethod
    def __call__(self, alpha: Tensor, sigma: Tensor, space: Target) -> Tensor:
        """Computes the weight of each image's squared error.

        Args:
            alpha: signal coefficients, (B,), float64.
            sigma: noise standard deviations, same shape.
            space: the target in whose space the error is measured.

        Returns:
            float64, (B,).
        """


@weightings.register("constant")
class Constant(Weighting):
    """Weight 1 at all noise levels in every space, the "simple" loss (Ho et al. 2020; paper Eq. 4)."""

    def __call__(self, alpha: Tensor, sigma: Tensor, space: Target) -> Tensor:
        """Ones."""
        return torch.ones_like(alpha)


@weightings.register("min-snr")
class MinSNR(Weighting):
    """min(SNR, gamma) for an error of x0: min(SNR, gamma)/SNR for eps, min(SNR, gamma)/(SNR + 1) for v (Hang et al. 2023).

    At alpha = 0 the weight for eps is its limit, 1; at sigma = 0 the weight for x0 is gamma.

    Attributes:
        gamma: largest weight of an error of x0.
    """

    gamma: PositiveFloat = 5.0

    def __call__(self, alpha: Tensor, sigma: Tensor, space: Target) -> Tensor:
        """min(SNR, gamma) c_out^2."""
        inverse = space.inverse(alpha, sigma)
        # SNR is 0 where c_out of noise prediction is infinite, and infinite where that of v is 0; e_out^2 is their product.
        return torch.minimum(inverse.e_out.square(), self.gamma * inverse.c_out.square())


@weightings.register("p2")
class P2(Weighting):
    """1 / (k + SNR)^gamma for an error of eps, which down-weights nearly clean images (Choi et al. 2022).

    Attributes:
        gamma: the power; 0 for equal weights.
        k: SNR that is added, which bounds the weight of noisy images.
    """

    gamma: NonNegativeFloat = 1.0
    k: PositiveFloat = 1.0

    def __call__(self, alpha: Tensor, sigma: Tensor, space: Target) -> Tensor:
        """e_out^2 / (k + SNR)^gamma."""
        inverse = space.inverse(alpha, sigma)
        total = alpha.square() + self.k * sigma.square()
        q = sigma.square() / total  # 1 / (k + SNR)
        # An error of x0 without noise is an infinite one of eps; e_out^2 = SNR c_out^2, and SNR q has a limit.
        at_no_noise = inverse.c_out.square() * alpha.square() / total * q.pow(self.gamma - 1)
        return torch.where(inverse.e_out.isinf(), at_no_noise, inverse.e_out.square() * q.pow(self.gamma))
