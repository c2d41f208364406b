"""The emoji recipe: its arms, its classes, and a run of two steps with a smaller network."""

from pathlib import Path

import torch
from entry_point import run

import etsdm
from etsdm.data import Emoji

RECIPE = Path(__file__).parents[2] / "recipes" / "emoji.yaml"
SMALL = (
    "data.size=8",
    "model.backbone={image_size: 8, model_channels: 8, channel_mult: [1], num_head_channels: 8, norm_groups: 4, attention_resolutions: []}",
    "training={images: 32, warmup_images: 0, log_every: 32, checkpoint_every: 32}",
    "sampling={n: 18, batch_size: 18, sampler: {steps: 2}}",
    "evaluation.metrics=[{type: loss-per-t, fine: 1, coarse: 1}]",
    "compute.jobs=1",
)


def test_its_arms_differ_in_the_condition_map_alone_and_the_data_says_how_many_classes_there_are():
    arms = etsdm.build(RECIPE).arms
    assert list(arms) == ["baseline", "e-tsdm"]
    one, other = (arm.model_dump(mode="json") for arm in arms.values())
    assert one["model"].pop("condition_map")["type"] == "identity"
    assert other["model"].pop("condition_map") == {"type": "e-tsdm", "t_tilde": 100.0, "n": 5, "share": "condition"}
    assert one == other
    for arm in arms.values():
        assert arm.data == Emoji(size=32)
        # Nine classes of the data, and the null class.
        assert arm.model.backbone.num_classes == 10
        assert arm.training.label_dropout > 0
        assert not arm.training.flip  # faces, letters and flags have a left and a right
        assert {name: section.guidance for name, section in arm.samplings.items()} == {"unguided": None, "guided": 2}


def test_a_longer_training_goes_on_from_a_shorter_one():
    assert not etsdm.build(RECIPE).recipe.training.lr_schedule.uses_length


def test_it_is_carried_out_from_anywhere(tmp_path):
    result = run("run", "emoji", *SMALL, "--out", "here", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "here" / "emoji"
    assert (folder / "report.html").is_file()
    for arm in ("baseline", "e-tsdm"):
        assert {path.name for path in (folder / arm / "samples").iterdir()} == {"unguided", "guided"}
    denoiser = etsdm.load(folder / "e-tsdm")
    assert denoiser.num_classes == 10
    drawn = etsdm.sample(denoiser, n=2, steps=2, y=torch.tensor([8, 9]))
    assert drawn.shape == (2, 3, 8, 8)
