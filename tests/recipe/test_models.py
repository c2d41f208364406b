"""The checks that hold a recipe together, and what they say."""

from pathlib import Path

import pytest

from etsdm.recipe import load_arms
from etsdm.registry import RecipeError

DIGITS = Path(__file__).parents[2] / "recipes" / "digits.yaml"


def refusal(*overrides):
    with pytest.raises(RecipeError) as error:
        load_arms(DIGITS, *overrides)
    # The same problem is found in every arm; the first one is shown.
    return str(error.value).replace(str(DIGITS), "digits.yaml")


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
            "model.backbone.out_channels: 1 channels, but 3 are denoised; give 3, or 6 to learn the variance of sampling steps (digits.yaml:13)",
        ),
        (
            "model.backbone.out_channels=2",
            "model.backbone.out_channels: 2 channels learn a variance, which loss 'mse' does not train; give 1, or loss hybrid (command line)",
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
            "sampling.sampler.t_end: grid 'leading' ends in the clean image, not at 5; leave t_end out, or give linspace (command line)",
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
            "training.warmup=80000",
            "training.warmup: 80000 images of warm-up are more than the 76800 of the training; give fewer (command line)",
        ),
        (
            "evaluation.metrics=[recognition, recognition]",
            "evaluation.metrics.1: metric 'recognition' stands twice; remove one (command line)",
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
    assert refusal(override) == message


def test_a_batch_of_problems_is_one_line_each():
    lines = refusal("training.images=0", "sampling.n=no").splitlines()
    assert lines == [
        "training.images: found 0; give a value above 0 (command line)",
        "sampling.n: found 'no'; give an integer (command line)",
    ]


def test_noise_prediction_without_signal_is_refused():
    # The product of 3,000 factors of at most a half is below the smallest float64.
    message = refusal("model.schedule={type: linear, timesteps: 3000, beta_start: 0.5, beta_end: 0.9999}")
    cause = "found 'eps'; the noise says nothing of x0 at alpha = 0; use v, or set allow_eps_at_zero_snr"
    assert message == f"model.target: {cause} (the last time of schedule 'linear') (digits.yaml:7)"


def test_the_file_name_is_the_recipes_name_and_is_not_inherited(tmp_path):
    (tmp_path / "mine.yaml").write_text(f"extends: {DIGITS}\n")
    assert load_arms(tmp_path / "mine.yaml").recipes["baseline"].name == "mine"
    (tmp_path / "named.yaml").write_text(f"extends: {DIGITS}\nname: other\n")
    assert load_arms(tmp_path / "named.yaml").recipes["baseline"].name == "other"
    (tmp_path / "third.yaml").write_text("extends: named.yaml\n")
    assert load_arms(tmp_path / "third.yaml").recipes["baseline"].name == "third"
