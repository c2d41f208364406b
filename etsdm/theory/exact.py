"""The exact denoiser: what a network of unlimited capacity would learn on a Gaussian mixture, in closed form.

It answers like a trained denoiser, so samplers, estimators and losses are tested against it. Its output under a condition
that only one time has is F* = k_x0 E[x0 | x] + k_eps E[eps | x]; under a condition that several times share it is the average
of F* over them (paper Eq. A15; see `etsdm.theory.sharing`).
"""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor

from etsdm.condition_maps import ConditionMap, Identity
from etsdm.denoisers.prediction import Prediction, predicted
from etsdm.schedules import Schedule
from etsdm.targets import Eps, Target
from etsdm.theory.mixtures import GaussianMixture
from etsdm.theory.shared_times import Fibre, fibres
from etsdm.theory.sharing import Weights, average_output, best_output

__all__ = ["ExactDenoiser"]


class ExactDenoiser:
    """The optimum of training on a Gaussian mixture, under a condition map.

    Computes in float64 and answers in the dtype of x. Differentiable in x, and in t where the map is
    injective. Averages over the shared times of a discrete schedule are sums over its timesteps; those of a continuous one are
    accurate to 1e-12 (64 nodes; see `etsdm.theory.shared_times`).

    Args:
        mixture: the clean data.
        schedule: their noise.
        target: what the output stands for.
        condition_map: which times share a condition.
        weights: how an output averages over times that share its condition: `uniform`, as in the paper's proof of theorem 4.1,
            or `posterior`, the minimiser of the training loss for uniformly drawn times and an unweighted error of F.
        device: where it computes, and where x has to be.

    Raises:
        ValueError: the map does not fit the schedule, or there are no such weights.
    """

    num_classes = None
    bounded = False  # a mixture's samples lie anywhere
    learns_variance = False

    def __init__(
        self,
        mixture: GaussianMixture,
        schedule: Schedule,
        *,
        target: Target | None = None,
        condition_map: ConditionMap | None = None,
        weights: Weights = "uniform",
        device: torch.device | str = "cpu",
    ) -> None:
        if weights not in get_args(Weights):
            raise ValueError(f"weights: {weights!r} is not known; give {' or '.join(get_args(Weights))}")
        self.mixture = mixture.to(device)
        self.schedule = schedule
        self.target = Eps() if target is None else target
        self.condition_map = Identity() if condition_map is None else condition_map
        self.weights = weights
        for problem in self.condition_map.check(schedule):
            raise ValueError(f"condition_map.{problem.field}: {problem.message}")
        self._fibres = fibres(self.condition_map, schedule)

    @property
    def shape(self) -> tuple[int, ...]:
        """(D,), the shape of one sample of the mixture; any other with D elements does as well."""
        return (self.mixture.dim,)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.mixture.device

    def decode(self, x: Tensor, chunk: int | None = None) -> Tensor:
        """x itself: what is denoised are the data."""
        return x

    def condition(self, t: Tensor) -> Tensor:
        """f(t). Args: t: times in the schedule's unit, any shape. Returns: conditions, same shape."""
        return self.condition_map(t, self.schedule)

    def noising_time(self, t: Tensor) -> Tensor:
        """The time at which training noises data that drew t, same shape; see `ConditionMap.noising_time`."""
        return self.condition_map.noising_time(t, self.schedule)

    def output(self, x: Tensor, t: Tensor | float, *, told: Tensor | None = None, **cond: Tensor) -> Tensor:
        """The ideal output F.

        Args:
            x: noisy data, (B, ...) with D elements a row.
            t: true times in the schedule's unit, (B,) or ().
            told: times whose condition is told in place of that of t, same shape. The input c_in(t) x stays; the answer is the
                best one for whoever believes the condition.
            **cond: none; an exact denoiser has no classes.

        Returns:
            F in the target's space, in x's shape and dtype.

        Raises:
            ValueError: something in `cond`, or rows of x that do not have D elements.
        """
        if cond:
            raise ValueError(f"{', '.join(cond)}: an exact denoiser takes no further condition; leave it out")
        t = _as_times(t, x)
        rows = x.reshape(len(x), -1).to(torch.float64)
        c_in = self.target.c_in(*self.schedule.alpha_sigma(t.reshape(-1)))
        output = self._best(c_in[:, None] * rows, (t if told is None else told.to(x.device)).reshape(-1))
        return output.reshape(x.shape).to(x.dtype)

    def predict(self, x: Tensor, t: Tensor | float, **cond: Tensor) -> Prediction:
        """x0, eps, v and score at (x, t), arguments as in `output`."""
        return predicted(self, x, t, self.output(x, t, **cond))

    def _best(self, z: Tensor, told: Tensor) -> Tensor:
        """F for inputs z, (B, D), under the conditions of `told`, (B,) or (1,)."""
        is_unshared = self._fibres.is_unshared(told)
        if is_unshared.all():
            return self._of_one(z, told)
        if not is_unshared.any():
            return self._of_several(z, told)
        one, several = (mask.nonzero().flatten().to(z.device) for mask in (is_unshared, ~is_unshared))
        outputs = torch.cat([self._of_one(z[one], told[one]), self._of_several(z[several], told[several])])
        return outputs[torch.cat([one, several]).argsort()]

    def _of_one(self, z: Tensor, t: Tensor) -> Tensor:
        return best_output(self.mixture, self.schedule, self.target, z, self.noising_time(t))[0]

    def _of_several(self, z: Tensor, t: Tensor) -> Tensor:
        shared_interval = self._fibres.of(t)
        levels = Fibre(self.noising_time(shared_interval.times), shared_interval.weights)
        return average_output(self.mixture, self.schedule, self.target, z, levels, self.weights)


def _as_times(t: Tensor | float, x: Tensor) -> Tensor:
    # A Python number would become float32, in which 0.02 is not 0.02.
    return t.to(x.device) if isinstance(t, Tensor) else torch.tensor(t, dtype=torch.float64, device=x.device)
