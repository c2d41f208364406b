"""Noise that can be taken apart again."""

import pytest
import torch


class OneAtATime:
    """At the n-th draw, noise 1 for sample n and 0 for the others, so that each sample is the weight of one noise."""

    def __init__(self, size):
        self.size = size
        self.n = 0

    def draw(self, shape):
        self.n += 1
        noise = torch.zeros(self.size, *shape, dtype=torch.float64)
        noise[self.n] = 1
        return noise


@pytest.fixture(scope="session")
def one_at_a_time():
    return OneAtATime
