"""Noise that can be taken apart again, and a denoiser of latents."""

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


@pytest.fixture(scope="session")
def latent_denoiser(tiny_denoiser):
    """Of 8x8 latents of 16x16 grey images."""
    kl = {
        "type": "kl",
        "resolution": 16,
        "in_channels": 1,
        "out_ch": 1,
        "ch": 8,
        "ch_mult": [1, 2],
        "num_res_blocks": 1,
        "attn_resolutions": [],
        "z_channels": 1,
        "embed_dim": 1,
        "norm_groups": 4,
    }
    return tiny_denoiser(target="v", first_stage=kl)
