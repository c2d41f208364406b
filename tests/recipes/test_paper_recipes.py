"""The recipes of the paper's networks: what Table A1 lists, and two arms that differ in the condition map alone."""

from pathlib import Path

import pytest

from etsdm.recipe import load_arms
from etsdm.training import Adam, ConstantLR, PerStepEMA

RECIPES = Path(__file__).parents[2] / "recipes"
every_recipe = pytest.mark.parametrize("name", ["ffhq_normal", "ffhq_large"])


@pytest.fixture(scope="module")
def arms():
    return {name: load_arms(RECIPES / f"{name}.yaml").recipes for name in ("ffhq_normal", "ffhq_large")}


@every_recipe
def test_the_arms_differ_in_the_condition_map_alone(arms, name):
    assert list(arms[name]) == ["baseline", "e-tsdm"]
    baseline, shared = arms[name].values()
    assert baseline.model.condition_map.model_dump() == {"type": "identity"}
    # "Five conditions" in the first 100 of 1,000 timesteps.
    assert shared.model.condition_map.model_dump() == {"type": "e-tsdm", "t_tilde": 100, "n": 5, "share": "condition"}
    assert baseline.model_copy(update={"model": shared.model}) == shared
    assert baseline.model.model_copy(update={"condition_map": shared.model.condition_map}) == shared.model


# Paper Table A1, the same for E-TSDM and the baseline. Head channels, BigGAN blocks and the rest are equal in both.
@pytest.mark.parametrize(
    ("name", "base", "mult", "blocks", "time_width", "batch"),
    [
        ("ffhq_normal", 128, (1, 1, 2, 2, 4, 4), 2, 512, 96),
        ("ffhq_large", 128, (1, 1, 2, 4, 6, 8), 4, 2048, 64),
    ],
)
def test_the_values_are_those_of_table_a1(arms, name, base, mult, blocks, time_width, batch):
    for recipe in arms[name].values():
        assert recipe.data.shape == (3, 256, 256)
        schedule = recipe.model.schedule
        assert schedule.type_name == "linear"
        assert (schedule.timesteps, schedule.beta_start, schedule.beta_end) == (1000, 1e-4, 0.02)
        assert recipe.model.target.type_name == "eps"
        assert (recipe.model.first_stage, recipe.model.super_resolution) == (None, None)
        backbone = recipe.model.backbone
        assert (backbone.type_name, backbone.image_size, backbone.in_channels, backbone.out_channels) == ("adm-unet", 256, 3, 3)
        assert (backbone.model_channels, backbone.channel_mult, backbone.num_res_blocks) == (base, mult, blocks)
        assert backbone.num_head_channels == 64
        assert sorted(256 // factor for factor in backbone.attention_resolutions) == [8, 16, 32]
        assert backbone.time_embed_dim == time_width
        assert backbone.resblock_updown
        assert backbone.dropout == 0
        assert backbone.num_classes is None
        training = recipe.training
        assert (training.learning_rate, training.batch_size, training.ema) == (1e-4, batch, PerStepEMA(decay=0.9999, rampup_ratio=None))
        assert (training.warmup_images, training.lr_schedule, training.gradient_clip) == (0, ConstantLR(), None)
        assert training.optimizer == Adam(betas=(0.9, 0.999), weight_decay=0)
        assert training.loss.model_dump() == {"type": "mse", "space": None, "weighting": {"type": "constant"}}
        assert training.time_sampler.type_name == "uniform"
        sampler = recipe.sampling.sampler
        assert sampler.type_name == "ddpm"
        assert sampler.times(recipe.model).tolist() == list(range(999, -1, -1))
        assert sampler.variance == "beta"
