"""The checks across the sections of a recipe, and their messages."""

import re
from pathlib import Path

import pytest

from etsdm.errors import RecipeError
from etsdm.recipe import Recipe, load_arms

DIGITS = Path(__file__).parents[2] / "recipes" / "digits.yaml"
RECIPES = Path(__file__).parents[1] / "recipes"
LATENT, SUPER_RESOLUTION = RECIPES / "latent.yaml", RECIPES / "super_resolution.yaml"


def recipe_error(*overrides, recipe=DIGITS):
    with pytest.raises(RecipeError) as error:
        load_arms(recipe, *overrides)
    # The same problem is found in every arm; the first one is shown.
    return str(error.value).replace(str(DIGITS), "digits.yaml").replace(f"{RECIPES}/", "")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "arms.e-tsdm.model.condition_map.t_tilde=2000",
            "model.condition_map.t_tilde: 2000 is beyond the schedule's horizon; give 1000 or less (command line)",
        ),
        (
            "model.backbone.image_size=9",
            "model.backbone.image_size: 9 is not a multiple of 2; give one, or fewer entries of channel_mult (command line)",
        ),
        (
            "model.backbone.image_size=16",
            "model.backbone.image_size: 16 pixels, but images of data set 'digits' are 8x8; give 8 (command line)",
        ),
        (
            "model.backbone.in_channels=3",
            "model.backbone.out_channels: 1 channels, but 3 are denoised; give 3, or 6 to learn the variance of sampling steps "
            "(digits.yaml:13)",
        ),
        (
            "model.backbone.out_channels=2",
            "model.backbone.out_channels: 2 channels learn a variance, which loss 'mse' does not train; give 1, or loss hybrid "
            "(command line)",
        ),
        (
            "model.backbone.num_classes=7",
            "model.backbone.num_classes: 7 classes, but data set 'digits' has 10; give 10, 11 or null (command line)",
        ),
        (
            "sampling.sampler.steps=2000",
            "sampling.sampler.steps: 2000 steps do not fit a schedule of 1000 timesteps; give 1 to 1000 (command line)",
        ),
        (
            "sampling.sampler={type: ddim, t_end: 5}",
            "sampling.sampler.t_end: grid 'auto' ends in the clean image, not at 5; leave t_end out, or give linspace (command line)",
        ),
        (
            "sampling.sampler={type: ddim, grid: linspace, t_end: 2000}",
            "sampling.sampler.t_end: 2000 is outside the times of schedule 'linear'; give 0 to 999 (command line)",
        ),
        (
            "sampling.sampler={type: ddim, steps: 2, grid: {type: explicit, at: [2000, 5]}}",
            "sampling.sampler.grid.at: 2000 is outside the times of schedule 'linear'; give 0 to 999 (command line)",
        ),
        (
            "sampling.sampler={type: ddpm, variance: learned}",
            "sampling.sampler.variance: found 'learned', but the model learns no variance; give beta or posterior (command line)",
        ),
        (
            "training.warmup_images=80000",
            "training.warmup_images: 80000 images of warm-up are more than the 76800 of the training; give fewer (command line)",
        ),
        (
            "evaluation.metrics=[recognition, recognition]",
            "evaluation.metrics.1: metric 'recognition' stands twice with the same fields; remove one, or give it a name (command line)",
        ),
        ("seeds=[1, 1]", "seeds: [1, 1]: a seed stands twice; give each once (command line)"),
        ("arms.baseline.seeds=[3]", "arms.baseline.seeds: all arms of a recipe have one seeds; set it for the whole recipe (command line)"),
        ("name=../x", "name: found '../x'; string should match pattern '^[A-Za-z0-9][A-Za-z0-9._-]*$' (command line)"),
        ("model.condition_map.n=0", "model.condition_map.n: found 0; give a value above 0 (command line)"),
        ("model.schedule.beta_start=2", "model.schedule.beta_start: found 2; give a value below 1 (command line)"),
        ("training.images=many", "training.images: found 'many'; give an integer (command line)"),
        ("training.lerning_rate=1", "training.lerning_rate: unknown field; did you mean 'learning_rate'? (command line)"),
        ("model.schedule=liner", "model.schedule: unknown schedule 'liner'; did you mean 'linear'? (command line)"),
    ],
)
def test_what_does_not_fit_is_refused_with_field_value_and_mend(override, message):
    assert recipe_error(override) == message


def test_a_batch_of_problems_is_one_line_each():
    lines = recipe_error("training.images=0", "sampling.n=no").splitlines()
    assert lines == [
        "training.images: found 0; give a value above 0 (command line)",
        "sampling.n: found 'no'; give an integer (command line)",
    ]


def test_a_schedule_that_loses_its_signal_before_its_end_is_refused():
    message = recipe_error("model.schedule={type: linear, timesteps: 4000, beta_end: 0.2}", "model.target=v")
    found = r"model.schedule: 'linear' has no signal from t = 104\d on, .*; give less noise, as by a smaller last beta or fewer timesteps"
    assert re.match(found, message)


def test_noise_prediction_without_signal_is_refused():
    message = recipe_error("model.schedule=zero-terminal-snr")
    found = r"model.target: 'eps' .* x0 at alpha = 0; use v, or set allow_eps_at_zero_snr"
    assert re.fullmatch(rf"{found} \(the last time of schedule 'zero-terminal-snr'\) \(digits.yaml:7\)", message)


def test_the_file_name_is_the_recipes_name_and_is_not_inherited(tmp_path):
    (tmp_path / "mine.yaml").write_text(f"extends: {DIGITS}\n")
    assert load_arms(tmp_path / "mine.yaml").recipes["baseline"].name == "mine"
    (tmp_path / "named.yaml").write_text(f"extends: {DIGITS}\nname: other\n")
    assert load_arms(tmp_path / "named.yaml").recipes["baseline"].name == "other"
    (tmp_path / "third.yaml").write_text("extends: named.yaml\n")
    assert load_arms(tmp_path / "third.yaml").recipes["baseline"].name == "third"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["training.loss=hybrid"],
            "training.loss: 'hybrid' trains a variance, which the model does not learn; give backbone.out_channels 2 (command line)",
        ),
        (
            ["training.loss={type: lipschitz-regularized, weight: 0.1}", "model.backbone.out_channels=2"],
            "model.backbone.out_channels: 2 channels learn a variance, which loss 'lipschitz-regularized' does not train; give 1, or loss "
            "hybrid (command line)",
        ),
        (
            [
                "training.loss=hybrid",
                "model.backbone.out_channels=2",
                "model.schedule=linear-continuous",
                "arms={}",
                "model.condition_map=identity",
            ],
            "training.loss: schedule 'linear-continuous' has no timesteps, of which hybrid's bound is a sum; give a discrete one such as "
            "'linear' (command line)",
        ),
        (
            [
                "training.loss=hybrid",
                "model.backbone.out_channels=2",
                "model.schedule.timesteps=1",
                "arms={}",
                "model.condition_map=identity",
                "sampling.sampler.steps=1",
            ],
            "training.loss: schedule 'linear' has 1 timestep, and hybrid's bound needs a step between two; give 2 "
            "timesteps or more (command line)",
        ),
    ],
)
def test_a_loss_goes_with_the_variance_that_the_model_learns(overrides, message):
    assert recipe_error(*overrides) == message


def test_a_learned_variance_and_its_loss_go_together():
    for recipe in load_arms(DIGITS, "training.loss=hybrid", "model.backbone.out_channels=2").recipes.values():
        assert recipe.model.learns_variance


def test_a_context_is_made_of_labels_because_no_data_set_has_one():
    backbone = "type: ldm-unet, image_size: 8, in_channels: 1, out_channels: 1, model_channels: 8, num_res_blocks: 1, norm_groups: 4"
    backbone += ", attention_resolutions: [2], channel_mult: [1, 2], use_spatial_transformer: true, context_dim: 6"
    message = "6 channels of a context, but data sets have none; set label_context to make it of labels"
    assert recipe_error(f"model.backbone={{{backbone}}}") == f"model.backbone.context_dim: {message} (command line)"
    assert recipe_error(f"model.backbone={{{backbone}, num_classes: 10}}") == f"model.backbone.context_dim: {message} (command line)"
    labelled = load_arms(DIGITS, f"model.backbone={{{backbone}, num_classes: 10, label_context: true}}").recipes["e-tsdm"]
    assert not labelled.model.backbone.takes_context


@pytest.mark.parametrize(("num_classes", "dropout"), [("null", 0), ("10", 0), ("11", 0.1)])
def test_labels_are_none_the_datas_or_one_more_for_the_null_class(num_classes, dropout):
    overrides = f"model.backbone.num_classes={num_classes}", f"training.label_dropout={dropout}"
    recipe = load_arms(DIGITS, *overrides).recipes["baseline"]
    assert recipe.model.backbone.num_classes == (None if num_classes == "null" else int(num_classes))


@pytest.mark.parametrize(
    ("num_classes", "dropout", "message"),
    [
        (
            "null",
            "0.1",
            "0.1 of the labels become the null class, but the model has no labels; give model.backbone.num_classes 11, or leave "
            "label_dropout out",
        ),
        (
            "10",
            "0.1",
            "0.1 of the labels become the null class, but the model has 10 labels, all of them classes; give "
            "model.backbone.num_classes 11, or leave label_dropout out",
        ),
        (
            "11",
            "0",
            "0, so nothing trains the null class, the last of the model's 11 labels; give a probability such as 0.1, or "
            "model.backbone.num_classes 10",
        ),
        ("11", "1", "found 1; give a value below 1"),
        ("11", "-0.1", "found -0.1; give 0 or more"),
    ],
)
def test_labels_are_dropped_if_and_only_if_there_is_a_null_class(num_classes, dropout, message):
    found = recipe_error(f"model.backbone.num_classes={num_classes}", f"training.label_dropout={dropout}")
    assert found == f"training.label_dropout: {message} (command line)"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["model.first_stage.resolution=16"],
            "model.first_stage: its latents are 2x8x8, but the backbone takes 2x4x4; change one of the two (latent.yaml:6)",
        ),
        (
            ["model.first_stage.resolution=16", "model.backbone.image_size=8"],
            "model.first_stage: is for images of 1x16x16, but those of data set 'digits' are 1x8x8; change one of the two (latent.yaml:6)",
        ),
        (
            ["model.first_stage.in_channels=3"],
            "model.first_stage: is for images of 3x8x8, but those of data set 'digits' are 1x8x8; change one of the two (latent.yaml:6)",
        ),
        (
            ["model.first_stage=vq-f5"],
            "model.first_stage: unknown first stage 'vq-f5'; did you mean 'vq-f8' or 'vq-f4' or 'vq-f16'? (command line)",
        ),
        (
            ["model.super_resolution={factor: 2}", "model.backbone.out_channels=1"],
            "model.super_resolution: found beside a first stage; leave one of the two out (command line)",
        ),
    ],
)
def test_a_first_stage_that_does_not_fit_is_refused(overrides, message):
    assert recipe_error(*overrides, recipe=LATENT) == message


def test_a_first_stage_is_between_the_data_and_the_backbone():
    recipe = load_arms(LATENT).recipes["baseline"]
    assert recipe.model.image_shape == recipe.data.shape == (1, 8, 8)
    assert recipe.model.shape == (2, 4, 4)
    assert recipe.training.first_stage_weights is None


def test_a_latent_diffusion_of_published_size_is_described_without_its_weights():
    recipe = Recipe.model_validate(
        {
            "data": "ffhq",
            # LDM's own schedule (CompVis/latent-diffusion, models/ldm/ffhq256/config.yaml).
            "model": {
                "schedule": {"type": "quadratic", "beta_start": 0.0015, "beta_end": 0.0195},
                "condition_map": "e-tsdm",
                "backbone": "ldm-ffhq",
                "first_stage": "vq-f4",
            },
            "training": {"images": 1, "first_stage_weights": "models/vq-f4.safetensors"},
        }
    )
    assert recipe.model.shape == (3, 64, 64)
    assert recipe.model.image_shape == recipe.data.shape == (3, 256, 256)
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["model.backbone.in_channels=1"],
            "model.backbone.in_channels: 1 is odd; give twice an image's channels, for the noisy and the enlarged image (command line)",
        ),
        (
            ["model.backbone.in_channels=6", "model.backbone.out_channels=3"],
            "model.backbone.in_channels: 6 channels, but data set 'digits' has 1; give 2 (command line)",
        ),
        (
            ["model.backbone.image_size=16"],
            "model.backbone.image_size: 16 pixels, but images of data set 'digits' are 8x8; give 8 (command line)",
        ),
        (
            ["model.super_resolution.factor=3"],
            "model.super_resolution.factor: 3 does not divide the 8 pixels of an image; give a divisor (command line)",
        ),
        (["model.super_resolution.factor=1"], "model.super_resolution.factor: found 1; give 2 or more (command line)"),
    ],
)
def test_super_resolution_that_does_not_fit_is_refused(overrides, message):
    assert recipe_error(*overrides, recipe=SUPER_RESOLUTION) == message


def test_super_resolution_takes_the_images_of_the_data_twice():
    recipe = load_arms(SUPER_RESOLUTION).recipes["e-tsdm"]
    assert recipe.model.shape == recipe.model.image_shape == recipe.data.shape == (1, 8, 8)
    assert recipe.model.backbone.in_channels == 2
    learned = load_arms(SUPER_RESOLUTION, "model.backbone.out_channels=2", "training.loss=hybrid").recipes["e-tsdm"]
    assert learned.model.learns_variance
