"""Equality with `AutoencoderKL` and `VQModel` of diffusers, an independent program, where the architectures coincide.

It keeps the linear maps of attention as matrices, and the levels of the decoder in the order in which they are run. It has no tanh,
and its resampling always has a convolution.
"""

import diffusers
import pytest
import torch
from recorded import weight

from etsdm.randomness import per_sample_normal
from etsdm.registry import first_stages

SMALL = {
    "resolution": 32,
    "in_channels": 3,
    "out_ch": 2,
    "ch": 8,
    "ch_mult": (1, 2, 3),
    "num_res_blocks": 2,
    "z_channels": 4,
    "norm_groups": 4,
}
ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}


def converted(spec, state):
    theirs = {}
    for key, value in state.items():
        match key.split("."):
            case [coder, ("down" | "up") as way, level, *rest]:
                level = int(level) if way == "down" else len(spec.widths) - 1 - int(level)
                rest = {"block": "resnets", "attn": "attentions"}.get(rest[0], f"{rest[0]}rs.0").split(".") + rest[1:]
                name = [coder, f"{way}_blocks", str(level), *rest]
            case [coder, "mid", layer, *rest]:
                name = [coder, "mid_block", {"block_1": "resnets.0", "attn_1": "attentions.0", "block_2": "resnets.1"}[layer], *rest]
            case [coder, "norm_out", kind]:
                name = [coder, "conv_norm_out", kind]
            case name:
                pass
        if "attentions" in ".".join(name):
            name = [*name[:-2], ATTENTION[name[-2]], name[-1]]
            value = value.flatten(1) if value.ndim > 1 else value
        theirs[".".join(name).replace("nin_shortcut", "conv_shortcut")] = value
    return theirs


def stages(kind, peer, **changes):
    """Ours and theirs with the same weights."""
    spec = first_stages.create(kind, **SMALL, **changes)
    ours = spec.build().eval()
    ours.load_state_dict({key: weight(key, value.shape) for key, value in ours.state_dict().items()})
    attending = ["Attn" if size in spec.attn_resolutions else "" for size in spec.sizes]
    theirs = peer(
        in_channels=spec.in_channels,
        out_channels=spec.out_ch,
        block_out_channels=spec.widths,
        down_block_types=tuple(f"{prefix}DownEncoderBlock2D" for prefix in attending),
        up_block_types=tuple(f"{prefix}UpDecoderBlock2D" for prefix in reversed(attending)),
        layers_per_block=spec.num_res_blocks,
        latent_channels=spec.z_channels,
        norm_num_groups=spec.norm_groups,
        mid_block_add_attention=spec.attn_type != "none",
    ).eval()
    theirs.load_state_dict(converted(spec, ours.state_dict()), strict=True)
    return ours, theirs


def images():
    return per_sample_normal(0, "test/images", range(3), (3, 32, 32)).clamp(-1, 1)


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


every_attention = pytest.mark.parametrize(
    "options", [{"attn_resolutions": ()}, {"attn_resolutions": (32, 8)}, {"attn_resolutions": (), "attn_type": "none"}]
)


@torch.no_grad()
@every_attention
def test_kl_is_diffusers_autoencoder_kl(options):
    ours, theirs = stages("kl", diffusers.AutoencoderKL, **options)
    posterior = theirs.encode(images()).latent_dist
    close(ours.moments(images()), posterior.parameters)
    close(ours.encode(images()), posterior.mode())
    z = posterior.mode()
    close(ours.decode(z), theirs.decode(z).sample)


@torch.no_grad()
@every_attention
def test_vq_is_diffusers_vq_model(options):
    def peer(**config):
        return diffusers.VQModel(**config, num_vq_embeddings=30, vq_embed_dim=5)

    ours, theirs = stages("vq", peer, n_embed=30, embed_dim=5, **options)
    z = theirs.encode(images()).latents
    close(ours.encode(images()), z)
    quantised, _, (_, _, codes) = theirs.quantize(z)
    assert len(codes.unique()) > 10
    assert torch.equal(ours.codes(z).flatten(), codes)
    close(ours.quantize(z), quantised)
    close(ours.decode(z), theirs.decode(z).sample)
    close(ours.decode(z, force_not_quantize=True), theirs.decode(z, force_not_quantize=True).sample)
