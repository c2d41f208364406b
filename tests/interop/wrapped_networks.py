"""Small networks of diffusers, and their denoisers beside a call by hand."""

import diffusers
import torch

from etsdm.interop import wrap
from etsdm.randomness import per_sample_normal

SHAPE = (1, 8, 8)
ETSDM = {"type": "e-tsdm", "t_tilde": 100, "n": 5}
T = torch.tensor([0.0, 19.0, 57.0, 999.0])
MAPPED = torch.tensor([0.0, 0.0, 40.0, 999.0])  # left edges of [0, 20) and [40, 60)
BLOCKS = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4}
UNET = {
    **BLOCKS,
    "sample_size": 8,
    "in_channels": 1,
    "out_channels": 1,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
}
CROSS = {
    **BLOCKS,
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "cross_attention_dim": 12,
    "attention_head_dim": 4,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
}
DIT = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 1, "sample_size": 8, "in_channels": 4, "patch_size": 2}
TEXT = per_sample_normal(0, "test/text", range(4), (3, 12))


def images(*shape):
    """Normal noise for four images of a shape, that of grey images by default."""
    return per_sample_normal(0, "test/images", range(4), shape or SHAPE)


def labels():
    return torch.tensor([0, 1, 2, 3])


def seeded(make):
    """The same network in every call, in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().eval()


def unet(**changes):
    return seeded(lambda: diffusers.UNet2DModel(**{**UNET, **changes}))


def conditional(**changes):
    return seeded(lambda: diffusers.UNet2DConditionModel(**{**CROSS, **changes}))


def dit(**changes):
    return seeded(lambda: diffusers.DiTTransformer2DModel(**{**DIT, "num_embeds_ada_norm": 5, **changes}))


def wrapped(network, **options):
    return wrap(network, **{"schedule": "linear", "target": "eps", **options})


def by_hand(network, t=T, x=None):
    with torch.no_grad():
        return network(images() if x is None else x, t).sample


def output(denoiser, t=T):
    with torch.no_grad():
        return denoiser.output(images(), t)


def check(network, call, cond=None, **options):
    """A denoiser's output is the call by hand, at the time itself and at its condition."""
    options = {"schedule": "linear", "target": "eps", **options}
    cond = cond or {}
    denoiser = wrap(network, **options)
    x = images(*denoiser.shape)
    channels = denoiser.shape[0]
    with torch.no_grad():
        assert torch.equal(denoiser.output(x, T, **cond), call(x, T)[:, :channels])
        shared = wrap(network, **options, condition_map=ETSDM)
        assert torch.equal(shared.output(x, T, **cond), call(x, MAPPED)[:, :channels])
        assert not torch.equal(shared.output(x, T, **cond), call(x, T)[:, :channels])
    return denoiser
