"""Denoisers and noise that tests put in the place of trained networks and of random streams."""

from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from etsdm.condition_maps import Identity, Timesteps
from etsdm.targets import Eps
from etsdm.theory import ExactDenoiser, mixture


class ThirdParty:
    """A denoiser that is not one of ours: it predicts x0 and eps, and nothing else.

    Args:
        schedule: its schedule.
        eps: a function of x and t; by default that of data which are 0, x / sigma.
        **attributes: other parts of the protocol.

    Attributes:
        times, conditions, gradients: of each call, the time, the further inputs, and whether gradients were on.
    """

    def __init__(self, schedule, eps=None, **attributes):
        self.schedule = schedule
        self.target = Eps()
        self.condition_map, self.time_input = Identity(), Timesteps()
        self.bounded, self.num_classes, self.device = False, None, torch.device("cpu")
        self.__dict__.update(attributes)
        self._eps = eps or (lambda x, t: x / schedule.sigma(t))
        self.times, self.conditions, self.gradients = [], [], []

    def predict(self, x, t, **cond):
        self.times.append(float(t))
        self.conditions.append(cond)
        self.gradients.append(torch.is_grad_enabled())
        alpha, sigma = (value.to(x.dtype) for value in self.schedule.alpha_sigma(float(t)))
        eps = self._eps(x, float(t))
        return SimpleNamespace(x0=(x - sigma * eps) / alpha, eps=eps)


def gaussian(schedule, spread, **attributes):
    """The exact third-party denoiser of N(0, spread^2) in every pixel."""

    def eps(x, t):
        alpha, sigma = (value.to(x.dtype) for value in schedule.alpha_sigma(t))
        return sigma * x / (spread**2 * alpha**2 + sigma**2)

    return ThirdParty(schedule, eps, **attributes)


class CountingDenoiser(ExactDenoiser):
    """An exact denoiser with a list of the times at which it was called, by default of the mixture m1.

    Attributes:
        times: of each call of `predict`.
    """

    def __init__(self, schedule, of="m1", **parts):
        super().__init__(mixture(of), schedule, **parts)
        self.times = []

    def predict(self, x, t, **cond):
        self.times.append(float(t))
        return super().predict(x, t, **cond)


class RecordingNetwork(nn.Module):
    """A network with lists of its inputs.

    Args:
        output: a function of x; by default x itself.
        scale: of the output, its one weight, float64 for an output in double precision.

    Attributes:
        inputs, times, labels: x, time and y of each call.
    """

    def __init__(self, output=lambda x: x, scale=1.0, dtype=torch.float32):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale, dtype=dtype))
        self.inputs, self.times, self.labels = [], [], []
        self._output = output

    def forward(self, x, time, y=None):
        self.inputs.append(x)
        self.times.append(time)
        self.labels.append(y)
        return self.scale * self._output(x)


class RecordedNoise:
    """The noise of the recorded runs: the n-th draw, n = 1, 2, ..., is numpy's RandomState(first + n - 1), for five samples."""

    def __init__(self, first):
        self._seed = first

    def draw(self, shape):
        found = torch.from_numpy(np.random.RandomState(self._seed).standard_normal((5, *shape)))
        self._seed += 1
        return found


class ForbiddenNoise:
    """A source of noise that fails the test when it is used."""

    def draw(self, shape):
        raise AssertionError("noise was drawn")
