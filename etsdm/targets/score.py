"""Score prediction."""

from __future__ import annotations

import torch
from torch import Tensor

from etsdm.registry import targets
from etsdm.targets.noise import NoiseTarget

__all__ = ["Score"]


@targets.register("score")
class Score(NoiseTarget):
    """The score of the noisy density, F = -eps / sigma (Song and Ermon 2019), or scaled, F = sigma score = -eps.

    The squared error of the unscaled form grows as 1 / sigma^2; a loss in the space `eps` weights it with sigma^2, as Song and Ermon do.

    Attributes:
        scaled: the form of the VE networks of Song et al. 2021, as in Karras et al. 2022 (table 1).
        allow_eps_at_zero_snr: see `NoiseTarget`.
    """

    scaled: bool = False

    def noise_per_output(self, sigma: Tensor) -> Tensor:
        """-sigma, or -1 where scaled."""
        return -torch.ones_like(sigma) if self.scaled else -sigma
