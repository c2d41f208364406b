"""Networks of diffusers with other units and directions than a UNet's, small and random, and the units that its pipelines pass."""

from pathlib import Path

import diffusers
import pytest
import torch

from etsdm.interop import share_timesteps

T, MAPPED = torch.tensor([33.0, 99.0]), torch.tensor([20.0, 80.0])
TEXT, POOLED, LATENTS = torch.ones(2, 5, 32), torch.ones(2, 32), torch.linspace(-1, 1, 512).reshape(2, 4, 8, 8)


def flux():
    model = diffusers.FluxTransformer2DModel(
        patch_size=1,
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=[4, 4, 8],
    )
    x = LATENTS.reshape(2, 64, 4)
    fixed = {"encoder_hidden_states": TEXT, "pooled_projections": POOLED, "img_ids": torch.zeros(64, 3), "txt_ids": torch.zeros(5, 3)}
    return model, lambda t: model(hidden_states=x, timestep=t, **fixed).sample


def sd3():
    sizes = {"num_layers": 1, "attention_head_dim": 8, "num_attention_heads": 4, "caption_projection_dim": 32, "joint_attention_dim": 32}
    model = diffusers.SD3Transformer2DModel(sample_size=8, patch_size=1, in_channels=4, out_channels=4, pooled_projection_dim=32, **sizes)
    return model, lambda t: model(LATENTS, TEXT, POOLED, t).sample


def lumina():
    model = diffusers.Lumina2Transformer2DModel(
        sample_size=8,
        in_channels=4,
        hidden_size=24,
        num_layers=1,
        num_refiner_layers=1,
        num_attention_heads=3,
        num_kv_heads=1,
        multiple_of=2,
        axes_dim_rope=(4, 2, 2),
        axes_lens=(16, 16, 16),
        cap_feat_dim=32,
    )
    return model, lambda t: model(LATENTS, t, TEXT, torch.ones(2, 5, dtype=torch.bool)).sample


@pytest.mark.parametrize(
    ("make", "argument_of"),
    [(flux, lambda t: t / 1000), (sd3, lambda t: t), (lumina, lambda t: (1000 - t) / 1000)],
    ids=["flux", "sd3", "lumina2"],
)
@torch.no_grad()
def test_a_transformer_is_that_transformer_at_mapped_times_bit_for_bit(make, argument_of):
    torch.manual_seed(0)
    model, call = make()
    model.eval()
    expected, before = call(argument_of(MAPPED)), call(argument_of(T))
    assert not torch.equal(expected, before)
    with share_timesteps(model):
        assert torch.equal(call(argument_of(T)), expected)
    assert torch.equal(call(argument_of(T)), before)


# What the pipelines pass for a scheduler's timestep t, from 1000 at pure noise to 0.
PASSED = {
    "flux/pipeline_flux.py": "timestep=timestep / 1000",
    "qwenimage/pipeline_qwenimage.py": "timestep=timestep / 1000",
    "aura_flow/pipeline_aura_flow.py": "torch.tensor([t / 1000])",
    "lumina2/pipeline_lumina2.py": "1 - t / self.scheduler.config.num_train_timesteps",
    "z_image/pipeline_z_image.py": "(1000 - timestep) / 1000",
    "ideogram4/pipeline_ideogram4.py": "1.0 - (t.float() / num_train_timesteps)",
    "mochi/pipeline_mochi.py": "Mochi uses reversed timesteps",
    "stable_diffusion_3/pipeline_stable_diffusion_3.py": "timestep = t.expand(latent_model_input.shape[0])",
    "wan/pipeline_wan.py": "timestep = t.expand(latents.shape[0])",
}


def test_the_pipelines_of_diffusers_pass_the_units_of_the_table():
    folder = Path(diffusers.__file__).parent / "pipelines"
    installed = {name: text for name, text in PASSED.items() if (folder / name).exists()}  # an earlier diffusers may lack some
    assert len(installed) > 5
    assert {name for name, text in installed.items() if text not in (folder / name).read_text()} == set()
