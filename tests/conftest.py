"""The settings that every test runs under, and the smallest denoiser with every kind of layer."""

import pytest
import torch
from hypothesis import settings
from torch import nn

from etsdm.denoisers.denoiser import DenoiserSpec
from etsdm.randomness import seeded_global_rng

settings.register_profile("etsdm", deadline=None)
settings.load_profile("etsdm")
torch.set_num_threads(1)

TINY = {
    "type": "adm-unet",
    "image_size": 8,
    "in_channels": 1,
    "out_channels": 1,
    "model_channels": 8,
    "norm_groups": 4,
    "channel_mult": (1, 2),
    "attention_resolutions": (2,),
    "num_res_blocks": 1,
}


@pytest.fixture(scope="session")
def tiny_spec():
    """Makes the specification of a denoiser of 8x8 grey images; `backbone` changes its network, the rest its parts."""

    def make(backbone=None, **parts):
        return DenoiserSpec.model_validate({"schedule": "linear", "backbone": {**TINY, **(backbone or {})}, **parts})

    return make


@pytest.fixture(scope="session")
def tiny_denoiser(tiny_spec):
    """Builds a tiny denoiser in eval mode, with noise in the layers that a network starts at zero, so that it has an output."""

    def make(**changes):
        denoiser = tiny_spec(**changes).build().eval()
        with seeded_global_rng(0, "test/weights"), torch.no_grad():
            for parameter in denoiser.parameters():
                if not parameter.count_nonzero():
                    nn.init.normal_(parameter, std=0.1)
        return denoiser

    return make


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
