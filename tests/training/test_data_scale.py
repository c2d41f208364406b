"""Scale of the training data: what is measured, and what is warned of and refused."""

import json
import re
import warnings

import pytest
import torch

from etsdm.data import LoadedImages
from etsdm.errors import DataError
from etsdm.training import Trainer, Training

KL = {
    "type": "kl",
    "resolution": 8,
    "in_channels": 1,
    "out_ch": 1,
    "ch": 8,
    "ch_mult": [1, 1],
    "num_res_blocks": 1,
    "attn_resolutions": [],
    "z_channels": 2,
    "norm_groups": 4,
}
LATENT = {"image_size": 4, "in_channels": 2, "out_channels": 2}


def normal(mean=0.0, std=1.0, n=400, channels=1):
    noise = torch.randn(n, channels, 8, 8, generator=torch.Generator().manual_seed(0))
    return mean + std * noise


def pixels(low=-1.0, high=1.0):
    """Uniform in [low, high]: the standard deviation is (high - low) / sqrt(12)."""
    return low + (high - low) * torch.rand(400, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def trainer(spec, images, **changes):
    loaded = LoadedImages(images, torch.zeros(len(images), dtype=torch.long))
    return Trainer(spec, Training(images=16, batch_size=8, **changes), loaded, seed=3)


def found(spec, images):
    """The warnings at the start of a training."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer(spec, images).step()
    return [str(one.message) for one in caught]


@pytest.fixture
def latent_trainer(tiny_spec):
    """A training on latents whose means and standard deviations, a channel each, are set in the encoder's last layer."""

    def make(means, stds, scale_factor=1.0, **parts):
        spec = tiny_spec(LATENT, first_stage={**KL, "scale_factor": scale_factor}, **parts)
        made = trainer(spec, pixels())
        last = made.denoiser.first_stage.quant_conv
        with torch.no_grad():
            last.weight.zero_()
            # The log variance is constant, the mean too: latents are normal to the last digit.
            last.bias.copy_(torch.tensor([*means, *(2 * torch.tensor(stds).log()).tolist()]))
        return made

    return make


def test_mean_and_standard_deviation_are_those_of_the_data(tiny_spec):
    scale = trainer(tiny_spec(), pixels()).check_data()
    assert scale.n == 256
    assert scale.latents is None
    # Of 256 x 64 uniform values: standard errors of 0.005 and 0.002.
    assert scale.images.mean == pytest.approx(0, abs=0.02)
    assert scale.images.std == pytest.approx(2 / 12**0.5, abs=0.01)
    assert -1 <= scale.images.low < -0.99 < 0.99 < scale.images.high <= 1
    assert scale.images.channel_stds == pytest.approx([scale.images.std])


def test_few_images_are_measured_whole_and_exactly(tiny_spec):
    images = torch.tensor([-1.0, 0.5]).repeat_interleave(64).view(2, 1, 8, 8)
    scale = trainer(tiny_spec(), images).check_data()
    assert scale == (2, (-0.25, 0.75, -1.0, 0.5, (-0.25,), (0.75,)), None)


@pytest.mark.parametrize("parts", [{}, {"target": "v"}, {"target": "edm", "schedule": "edm"}, {"schedule": "flow", "target": "flow"}])
def test_images_in_their_range_are_not_warned_of(tiny_spec, parts):
    assert found(tiny_spec(**parts), pixels()) == []
    assert found(tiny_spec(**parts), normal(std=0.3).clamp(-1, 1)) == []


def test_the_digits_are_not_warned_of(tiny_spec):
    from etsdm.data import Digits

    assert found(tiny_spec(), Digits().open("train").pixels) == []
    assert found(tiny_spec(target="edm", schedule="edm"), Digits().open("train").pixels) == []


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (pixels(0, 1), r"^data: images have values from [\d.e-]+ to 1 .*none below mid-grey.*, here x / 0.5 - 1$"),
        (pixels(-3, 3), r"^data: images have values from -3 to 3 and standard deviation 1.7\d, .*clipped.* give pixels in \[-1, 1\]$"),
        (pixels(-0.1, 0.1), r"^data: images have values from -0.1 to 0.1 and standard deviation 0.057\d, .*raise their contrast$"),
    ],
)
def test_images_of_another_range_are_warned_of_once(tiny_spec, images, message):
    (warning,) = found(tiny_spec(), images)

    assert re.search(message, warning)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (pixels(0, 255).round(), r"^data: images have values from 0 to 255 .* give pixels in \[-1, 1\], here x / 127.5 - 1$"),
        (pixels(0, 65535).round(), r"here x / 32767.5 - 1$"),
        (torch.full((4, 1, 8, 8), 0.3), r"^data: all values of the images are 0.3; give images"),
        (pixels(-0.01, 0.01), r"^data: images have values .* standard deviation 0.0057\d, .*raise their contrast"),
        (pixels().index_fill(0, torch.arange(400), torch.nan), r"^data: images: 8 of 8 in a batch .*not finite; give finite"),
        (pixels().to(torch.int16), r"^data: images are of torch.int16; give float32 in \[-1, 1\]$"),
        (pixels()[..., 0], r"^data: a batch of images has the shape 8x1x8; give 8x1 x height x width$"),
        (pixels().movedim(1, 3), r"^data: a batch of images has the shape 8x8x8x1; give 8x1 x height x width$"),
    ],
)
def test_images_on_which_training_is_senseless_are_refused(tiny_spec, images, message):
    made = trainer(tiny_spec(), images)
    with pytest.raises(DataError, match=message):
        made.step()
    assert made.images_seen == 0


@pytest.mark.parametrize(
    ("sigma_data", "mend"), [(1.1, "sigma_data: 0.57"), (0.3, "sigma_data: 0.57"), (0.55, None), (0.5, None), (0.9, None)]
)
def test_sigma_data_is_compared_with_the_data(tiny_spec, sigma_data, mend):
    warned = found(tiny_spec(schedule="edm", target={"type": "edm", "sigma_data": sigma_data}), pixels())
    if mend is None:
        assert warned == []
    else:
        (warning,) = warned
        assert "standard deviation 0.57" in warning
        assert f"expect {sigma_data:g}: set model.target.{mend}" in warning


def test_sigma_data_ten_times_off_is_refused(tiny_spec):
    with pytest.raises(DataError, match=r"standard deviation 0.57\d, where .* expect 6; set model.target.sigma_data: 0.57"):
        trainer(tiny_spec(schedule="edm", target={"type": "edm", "sigma_data": 6.0}), pixels()).step()


def warned_of(made):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made.step()
        made.step()
    assert all(str(one.message).startswith("model.first_stage: ") for one in caught)
    return [str(one.message) for one in caught]


@pytest.mark.parametrize(
    ("means", "stds", "scale_factor"),
    [
        ((0.0, 0.0), (1.0, 1.0), 1.0),
        # Two channels of the latents of Stable Diffusion's first stage on ImageNet (Karras et al. 2024, training/encoders.py).
        ((5.81, -2.15), (4.17, 3.28), 0.18215),
        ((0.0, 0.0), (4.0, 4.0), 0.25),
    ],
)
def test_latents_of_about_unit_variance_are_not_warned_of(latent_trainer, means, stds, scale_factor):
    assert warned_of(latent_trainer(means, stds, scale_factor)) == []


EDM = {"schedule": "edm", "target": "edm"}


@pytest.mark.parametrize(
    ("std", "scale_factor", "parts", "expected", "mend"),
    [(4.0, 1.0, {}, 1, 0.25), (0.2, 2.0, {}, 1, 5.0), (2.0, 1.0, {}, 1, 0.5), (0.5, 1.0, {}, 1, 2.0), (1.0, 1.0, EDM, 0.5, 0.5)],
)
def test_latents_of_another_scale_are_warned_of_with_the_factor_to_give(latent_trainer, std, scale_factor, parts, expected, mend):
    (warning,) = warned_of(latent_trainer((0.0, 0.0), (std, std), scale_factor, **parts))
    told = re.search(r"standard deviation ([\d.]+), where schedule and target expect ([\d.]+): set (\S+): ([\d.]+)", warning)
    assert float(told[1]) == pytest.approx(std * scale_factor, rel=0.03)
    assert float(told[2]) == expected
    assert told[3] == "model.first_stage.scale_factor"
    assert float(told[4]) == pytest.approx(mend, rel=0.03)
    assert ("or model.target.sigma_data: " in warning) == bool(parts)


def test_the_given_factor_ends_the_warning(latent_trainer):
    (warning,) = warned_of(latent_trainer((0.0, 0.0), (4.0, 4.0)))
    assert warned_of(latent_trainer((0.0, 0.0), (4.0, 4.0), float(warning.rpartition(" ")[2]))) == []


def test_shifted_latents_and_channels_of_other_sizes_are_warned_of(latent_trainer):
    (shifted,) = warned_of(latent_trainer((3.0, 3.0), (1.0, 1.0)))
    assert re.search(r"mean (2.9|3|3.0)\d* \(by channel: .*\), .*centred", shifted)
    (opposite,) = warned_of(latent_trainer((20.0, -20.0), (1.0, 1.0), 0.05))
    assert re.search(r"\(by channel: (1|0.99|1.0)\d*, -(1|0.99|1.0)\d*\)", opposite)
    (channels,) = warned_of(latent_trainer((0.0, 0.0), (1.5, 0.1)))
    assert re.search(r"channels of the latents have standard deviations 1\.[45]\d*, 0\.(1|09)\d*, .*normalises each", channels)


@pytest.mark.parametrize(
    ("means", "stds", "message"),
    [
        (
            (0.0, 0.0),
            (12.0, 12.0),
            r"^model.first_stage: latents .* deviation 1[12].*; set model.first_stage.scale_factor: 0.08",
        ),
        ((0.0, 0.0), (0.05, 0.05), r"^model.first_stage: latents have standard deviation 0.0[45].*scale_factor: (19|20)"),
        ((float("nan"), 0.0), (1.0, 1.0), r"^model.first_stage: latents: 8 of 8 .*not finite; check training.first_stage_weights"),
    ],
)
def test_latents_on_which_training_is_senseless_are_refused(latent_trainer, means, stds, message):
    with pytest.raises(DataError, match=message):
        latent_trainer(means, stds).step()


def test_the_images_before_a_first_stage_are_checked_too(tiny_spec):
    spec = tiny_spec(LATENT, first_stage=KL)
    with pytest.raises(DataError, match=r"values from 0 to 255 .* x / 127.5 - 1"):
        trainer(spec, pixels(0, 255).round()).step()


def test_what_is_measured_is_in_every_checkpoint(tiny_spec, tmp_path):
    made = trainer(tiny_spec(), pixels())
    list(made.run(lambda seen: tmp_path / str(seen)))
    stored = json.loads((tmp_path / "16" / "denoiser.json").read_text())["facts"]["data_scale"]
    assert stored == json.loads(json.dumps(made.check_data().record()))
    assert stored["images"]["std"] == pytest.approx(2 / 12**0.5, abs=0.01)


def test_the_sample_is_the_same_for_every_seed_and_touches_no_other_stream(tiny_spec):
    one, other = trainer(tiny_spec(), pixels()), trainer(tiny_spec(), pixels())
    other.seed = 4
    before = torch.random.get_rng_state()
    assert one.check_data() == other.check_data()
    assert torch.equal(before, torch.random.get_rng_state())
