"""The exact denoiser: what a network of unlimited capacity would learn on a Gaussian mixture, in closed form.

It has the protocol of a trained denoiser, so samplers, estimators and losses are tested against it. Its output under a condition
of a single time is F* = k_x0 E[x0 | x] + k_eps E[eps | x]; under a condition that several times share it is the average of F* over
them (paper Eq. A15; see `etsdm.theory.sharing`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import torch
from torch import Tensor

from etsdm.condition_maps import ConditionMap, Identity, TimeInput, Timesteps
from etsdm.denoisers.prediction import Prediction
from etsdm.denoisers.time_point import check_call
from etsdm.errors import PartError
from etsdm.registry import condition_maps, schedules, targets
from etsdm.schedules import Schedule
from etsdm.targets import Eps, Target
from etsdm.theory.mixtures import GaussianMixture
from etsdm.theory.shared_times import WeightedTimes, shared_times_of
from etsdm.theory.sharing import Weights, average_output, best_output

__all__ = ["ExactDenoiser"]


class ExactDenoiser:
    """The optimum of training on a Gaussian mixture, under a condition map.

    Computes in float64; the output has the dtype of x. Differentiable in x, and in t where the map is
    injective. Averages over the shared times of a discrete schedule are sums over its timesteps; those of a continuous one are
    accurate to 1e-12 (64 nodes; see `etsdm.theory.shared_times`).

    Args:
        mixture: the clean data.
        schedule: the noise schedule; this and the next two as parts, by name, or as mappings with `type`.
        target: the prediction target of the output, eps by default.
        condition_map: the map whose conditions times share, the identity by default.
        weights: how an output averages over times that share its condition: `uniform`, as in the paper's proof of theorem 4.1,
            or `posterior`, the minimiser of the training loss for uniformly drawn times and an unweighted error of F.
        device: where it computes, and where x has to be.

    Raises:
        ValueError: the map does not fit the schedule, or there are no such weights.
    """

    num_classes = None
    bounded = False  # a mixture's samples lie anywhere
    learns_variance = False
    time_input: TimeInput = Timesteps()

    def __init__(
        self,
        mixture: GaussianMixture,
        schedule: Schedule | str | Mapping[str, Any],
        *,
        target: Target | str | Mapping[str, Any] | None = None,
        condition_map: ConditionMap | str | Mapping[str, Any] | None = None,
        weights: Weights = "uniform",
        device: torch.device | str = "cpu",
    ) -> None:
        if weights not in get_args(Weights):
            raise PartError("weights", f"{weights!r} is not known; give {' or '.join(get_args(Weights))}")
        self.mixture = mixture.to(device)
        self.schedule: Schedule = schedules.make(schedule)
        self.target: Target = Eps() if target is None else targets.make(target)
        self.condition_map: ConditionMap = Identity() if condition_map is None else condition_maps.make(condition_map)
        self.weights = weights
        for problem in self.condition_map.check(self.schedule):
            raise ValueError(f"condition_map.{problem.field}: {problem.message}")
        self._shared_times = shared_times_of(self.condition_map, self.schedule)

    @property
    def shape(self) -> tuple[int, ...]:
        """(D,), the shape of one sample of the mixture; any other with D elements does as well."""
        return (self.mixture.dim,)

    @property
    def device(self) -> torch.device:
        """The device that it computes on."""
        return self.mixture.device

    def decode(self, x: Tensor, chunk: int | None = None) -> Tensor:
        """x itself, which is the data."""
        return x

    def condition(self, t: Tensor) -> Tensor:
        """f(t). Args: t: times in the schedule's unit, any shape. Returns: conditions, same shape."""
        return self.condition_map(t, self.schedule)

    def noising_time(self, t: Tensor) -> Tensor:
        """The time at which training noises data that drew t, same shape; see `ConditionMap.noising_time`."""
        return self.condition_map.noising_time(t, self.schedule)

    def output(self, x: Tensor, t: Tensor | float, *, condition_t: Tensor | None = None, **cond: Tensor) -> Tensor:
        """The ideal output F.

        Args:
            x: noisy data, (B, ...) with D elements a row.
            t: true times in the schedule's unit, (B,) or ().
            condition_t: times whose condition replaces that of t, same shape. The input c_in(t) x stays; the output is the optimal
                one under that condition.
            **cond: none; an exact denoiser has no classes.

        Returns:
            F in the target's space, in x's shape and dtype.

        Raises:
            ValueError: something in `cond`, or rows of x that do not have D elements.
        """
        if cond:
            raise ValueError(f"{', '.join(cond)}: an exact denoiser takes no further condition; leave it out")
        check_call(x, t)
        t = _as_times(t, x)
        rows = x.reshape(len(x), -1).to(torch.float64)
        c_in = self.target.c_in(*self.schedule.alpha_sigma(t.reshape(-1)))
        output = self._best(c_in[:, None] * rows, (t if condition_t is None else condition_t.to(x.device)).reshape(-1))
        return output.reshape(x.shape).to(x.dtype)

    def predict(self, x: Tensor, t: Tensor | float, **cond: Tensor) -> Prediction:
        """x0, eps, v and score at (x, t), arguments as in `output`."""
        return Prediction.from_output(self, x, t, self.output(x, t, **cond))

    def _best(self, z: Tensor, condition_t: Tensor) -> Tensor:
        """F for inputs z, (B, D), under the conditions of times `condition_t`, (B,) or (1,)."""
        is_unshared = self._shared_times.is_unshared(condition_t)
        if is_unshared.all():
            return self._of_one(z, condition_t)
        if not is_unshared.any():
            return self._of_several(z, condition_t)
        one, several = (mask.nonzero().flatten().to(z.device) for mask in (is_unshared, ~is_unshared))
        outputs = torch.cat([self._of_one(z[one], condition_t[one]), self._of_several(z[several], condition_t[several])])
        return outputs[torch.cat([one, several]).argsort()]

    def _of_one(self, z: Tensor, t: Tensor) -> Tensor:
        return best_output(self.mixture, self.schedule, self.target, z, self.noising_time(t))[0]

    def _of_several(self, z: Tensor, t: Tensor) -> Tensor:
        shared = self._shared_times.of(t)
        noising_times = WeightedTimes(self.noising_time(shared.times), shared.weights)
        return average_output(self.mixture, self.schedule, self.target, z, noising_times, self.weights)


def _as_times(t: Tensor | float, x: Tensor) -> Tensor:
    # A Python number would become float32, in which 0.02 is not 0.02.
    return t.to(x.device) if isinstance(t, Tensor) else torch.tensor(float(t), dtype=torch.float64, device=x.device)
