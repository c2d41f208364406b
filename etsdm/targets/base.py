"""Prediction targets: parametrisations of the network's output F.

A target is two weights at each (alpha, sigma): the ideal output is F = k_x0 x0 + k_eps eps. Together with
x = alpha x0 + sigma eps this is a linear system, solved for x0 and eps from x and F:

    det = alpha k_eps - sigma k_x0,
    x0  = (k_eps x - sigma F) / det   =  c_skip x + c_out F,
    eps = (alpha F - k_x0 x) / det    =  e_skip x + e_out F.

At a given x an error dF of the output is therefore an error c_out dF of x0, e_out dF of eps, and
(k'_x0 c_out + k'_eps e_out) dF of the output of another target k'.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from etsdm.registry import Part, targets

__all__ = ["Coefficients", "Target"]


class Coefficients(NamedTuple):
    """Coefficients of x0 = c_skip x + c_out F and eps = e_skip x + e_out F, F the network's output for c_in x; float64."""

    c_in: Tensor
    c_skip: Tensor
    c_out: Tensor
    e_skip: Tensor
    e_out: Tensor


class Target(Part, family=targets):
    """Prediction target, as coefficients in (alpha, sigma).

    Attributes:
        needs_signal: whether x0 is undefined by x and F at alpha = 0.
    """

    needs_signal: ClassVar[bool] = False

    @property
    def data_std(self) -> float | None:
        """Standard deviation of the data for which input and output are scaled to unit variance, None if they are not scaled."""
        return None

    @abstractmethod
    def output_weights(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (k_x0, k_eps) of the ideal output F = k_x0 x0 + k_eps eps, in the shape of alpha and sigma."""

    def c_in(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Factor on x before the network; 1 unless the target rescales its input."""
        return torch.ones_like(alpha)

    @property
    def scales_input(self) -> bool:
        """Whether c_in may differ from 1."""
        return type(self).c_in is not Target.c_in

    def inverse(self, alpha: Tensor, sigma: Tensor) -> Coefficients:
        """Coefficients of x0 and eps from F at any noise level; undefined coefficients are infinite, never NaN.

        Args:
            alpha: signal coefficients, any shape, float64.
            sigma: noise standard deviations, same shape.

        Returns:
            Each coefficient in the shape of alpha.
        """
        k_x0, k_eps = self.output_weights(alpha, sigma)
        det = alpha * k_eps - sigma * k_x0
        return Coefficients(self.c_in(alpha, sigma), k_eps / det, -sigma / det, -k_x0 / det, alpha / det)

    def coefficients(self, alpha: Tensor, sigma: Tensor) -> Coefficients:
        """Coefficients of x0 and eps from F, checked; arguments and result as in `inverse`.

        Raises:
            PartError: x0 is undefined, at alpha = 0 for a target that needs a signal (checked on the CPU only, where it needs no
                synchronisation, and not while compiling).
        """
        return self.inverse(alpha, sigma)

    def training_target(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Ideal output F for clean images x0 and noise eps; alpha and sigma broadcast against them."""
        k_x0, k_eps = self.output_weights(alpha, sigma)
        return k_x0.to(x0.dtype) * x0 + k_eps.to(x0.dtype) * eps

    def error_factor(self, space: Target, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Factor from an error of this target's output to that of the output of `space`, for the same x.

        Args:
            space: target in whose space the error is measured.
            alpha: signal coefficients, any shape, float64.
            sigma: noise standard deviations, same shape.

        Returns:
            k'_x0 c_out + k'_eps e_out with the weights k' of `space`, same shape.
        """
        if space == self:
            return torch.ones_like(alpha)
        inverse = self.inverse(alpha, sigma)
        k_x0, k_eps = space.output_weights(alpha, sigma)
        return _product(k_x0, inverse.c_out) + _product(k_eps, inverse.e_out)


def _product(k: Tensor, error: Tensor) -> Tensor:
    # A quantity of weight 0 may have an infinite error: x0 for noise prediction at alpha = 0, eps for x0 prediction at sigma = 0.
    return torch.where(k == 0, 0.0, k * error)
