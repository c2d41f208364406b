"""Autoencoders of diffusers as first stages."""

import diffusers
import pytest
import torch
from wrapped_pipelines import VAE, dit_pipeline, small, vae

from etsdm.errors import PartError
from etsdm.interop import wrap
from etsdm.interop.autoencoders import first_stage_of
from etsdm.randomness import per_sample_normal

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
PLAIN = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
WITHOUT_QUANT = {"use_quant_conv": False, "use_post_quant_conv": False}
SD3 = {**WITHOUT_QUANT, "shift_factor": 0.0609, "scaling_factor": 1.5305}


@pytest.mark.parametrize(
    "changes",
    [{}, PLAIN, {**PLAIN, "mid_block_add_attention": False}, {"shift_factor": 0.1159}, {"use_quant_conv": False}, WITHOUT_QUANT, SD3],
)
def test_first_stages_are_their_autoencoders(changes):
    theirs, images = vae(**changes), per_sample_normal(0, "test/images", range(2), (3, 16, 16)).clamp(-1, 1)
    ours = first_stage_of(theirs, 8)
    scale, shift = changes.get("scaling_factor", 0.18215), changes.get("shift_factor", 0.0)
    with torch.no_grad():
        latent = theirs.encode(images).latent_dist
        z = (latent.mode() - shift) * scale  # of diffusers' pipelines
        torch.testing.assert_close(ours.encode(images), z, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(ours.moments(images).chunk(2, 1)[1].clamp(-30, 20), latent.logvar, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(ours.decode(z), theirs.decode(z / scale + shift).sample, rtol=1e-4, atol=1e-5)
    assert (ours.spec.scale_factor, ours.spec.latent_channels) == (scale, 4)


def test_a_vq_model_is_a_first_stage():
    theirs = small(lambda: diffusers.VQModel(**{**VAE, "latent_channels": 3}, num_vq_embeddings=30, vq_embed_dim=5, scaling_factor=1.0))
    images = per_sample_normal(0, "test/images", range(2), (3, 16, 16)).clamp(-1, 1)
    ours = first_stage_of(theirs, 8)
    with torch.no_grad():
        z = theirs.encode(images).latents
        torch.testing.assert_close(ours.encode(images), z, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(ours.decode(z), theirs.decode(z).sample, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("change", [{"act_fn": "relu"}, {"latents_mean": [0.1] * 4}, {"latents_std": [2.0] * 4}])
def test_an_autoencoder_of_another_architecture_is_refused(change):
    with pytest.raises(PartError, match=rf"^first_stage: AutoencoderKL has {next(iter(change))} .*give the network alone to wrap"):
        wrap(dit_pipeline(**change))


def test_an_autoencoder_of_another_class_is_refused():
    widths = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
    tiny = diffusers.AutoencoderTiny(**widths, num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1))
    with pytest.raises(PartError, match=r"^first_stage: found a AutoencoderTiny, none of AutoencoderKL, VQModel"):
        wrap(dit_pipeline().transformer, schedule="linear", target="eps", first_stage=tiny)
