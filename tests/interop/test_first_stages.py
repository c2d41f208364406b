"""First stages in the keys of diffusers."""

import pytest
import torch
from foreign import filled
from safetensors.torch import save_file

import etsdm
from etsdm.backbones.dit import DiT
from etsdm.errors import CheckpointError
from etsdm.interop import Options, convert

diffusers = pytest.importorskip("diffusers")
DIT = DiT(image_size=8, in_channels=2, out_channels=4, patch_size=2, hidden_size=24, depth=1, num_heads=3)
MODEL = {"backbone": {"num_heads": 3}, "first_stage": {"norm_groups": 4}}


@pytest.fixture
def files(tmp_path):
    """Files of a DiT and of an autoencoder of diffusers, and the autoencoder."""
    torch.save(filled(DIT.build()).state_dict(), tmp_path / "dit.pt")
    autoencoder = diffusers.AutoencoderKL(
        in_channels=1,
        out_channels=1,
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
        up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
        layers_per_block=1,
        latent_channels=2,
        norm_num_groups=4,
    )
    filled(autoencoder)
    save_file(dict(autoencoder.state_dict()), tmp_path / "vae.safetensors")
    return tmp_path / "dit.pt", tmp_path / "vae.safetensors", autoencoder


@torch.no_grad()
def test_an_autoencoder_of_diffusers_is_the_first_stage_of_a_dit(files, tmp_path):
    dit, vae, theirs = files
    report = convert("dit", dit, tmp_path / "out", Options(model=MODEL, first_stage=vae))
    found = etsdm.load(tmp_path / "out")
    images = torch.linspace(-1, 1, 512).reshape(2, 1, 16, 16)
    z = theirs.encode(images).latent_dist.mode()
    torch.testing.assert_close(found.encode(images), 0.18215 * z, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.decode(0.18215 * z), theirs.decode(z).sample.clamp(-1, 1), atol=1e-5, rtol=1e-5)
    assert found.spec.first_stage.attn_resolutions == (8,)
    assert report.used["first_stage.decoder.up.1.upsample.conv.bias"] == "decoder.up_blocks.0.upsamplers.0.conv.bias"
    assert report.used["first_stage.encoder.mid.attn_1.q.weight"] == "encoder.mid_block.attentions.0.to_q.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("encoder.mid_block.attentions.0.to_q.bias"), r"1 keys missing \(encoder\.mid\.attn_1\.q\.bias\)"),
        (lambda state: state.update(extra=torch.ones(1)), r"key 'extra' is not of a first stage of latent diffusion"),
    ],
)
def test_its_keys_are_accounted_for(files, tmp_path, change, message):
    dit, vae, theirs = files
    state = dict(theirs.state_dict())
    change(state)
    save_file(state, vae)
    with pytest.raises(CheckpointError, match=rf"vae\.safetensors: .*{message}"):
        convert("dit", dit, tmp_path / "out", Options(model=MODEL, first_stage=vae))
