import pytest
import torch

from etsdm.backbones.first_stages import unit_scale_factor
from etsdm.randomness import generator, seeded_global_rng
from etsdm.registry import first_stages


def network(**changes):
    fields = {"resolution": 8, "in_channels": 1, "out_ch": 1, "ch": 8, "ch_mult": (1, 2), "num_res_blocks": 1, "attn_resolutions": ()}
    with seeded_global_rng(0, "test/weights"):
        return first_stages.create("kl", **fields, z_channels=3, norm_groups=4, **changes).build().eval()


def with_moments(mean, log_variance, **changes):
    """A network whose encoder gives these moments for every image."""
    built = network(**changes)
    with torch.no_grad():
        built.quant_conv.weight.zero_()
        built.quant_conv.bias.copy_(torch.tensor([mean] * 3 + [log_variance] * 3))
    return built


def images(batch):
    return torch.zeros(batch, 1, 8, 8)


def test_without_a_generator_the_latents_are_the_means():
    built, x = network(), torch.linspace(-1, 1, 64).reshape(1, 1, 8, 8)
    moments = built.moments(x)
    assert moments.shape == (1, 6, 4, 4)
    assert torch.equal(built.encode(x), moments[:, :3])


def test_samples_have_the_mean_and_the_variance_of_the_moments():
    # exp(-1.4) is the variance; 4800 draws.
    z = with_moments(2.0, -1.4).encode(images(100), generator=generator(0, "test/posterior"))
    assert z.mean().item() == pytest.approx(2.0, abs=0.03)
    assert z.var().item() == pytest.approx(0.2465970, rel=0.06)


def test_samples_are_scaled_as_a_whole():
    plain, scaled = with_moments(2.0, -1.4), with_moments(2.0, -1.4, scale_factor=0.5)
    first, second = (built.encode(images(2), generator=generator(0, "test/posterior")) for built in (plain, scaled))
    assert torch.equal(second, 0.5 * first)


def test_a_generator_at_the_same_place_gives_the_same_sample():
    built = with_moments(0.0, 0.0)
    stream = generator(0, "test/posterior")
    first, second = built.encode(images(1), generator=stream), built.encode(images(1), generator=stream)
    assert not torch.equal(first, second)
    assert torch.equal(built.encode(images(1), generator=generator(0, "test/posterior")), first)


@pytest.mark.parametrize(("log_variance", "deviation"), [(-100.0, 3.059023e-07), (100.0, 22026.47)])
def test_log_variances_are_clamped(log_variance, deviation):
    # exp(-15) and exp(10).
    z = with_moments(0.0, log_variance).encode(images(100), generator=generator(0, "test/posterior"))
    assert z.std().item() == pytest.approx(deviation, rel=0.04)
    assert with_moments(0.0, log_variance).moments(images(1))[0, 3, 0, 0].item() == log_variance


@pytest.mark.parametrize("scale_factor", [1.0, 0.3])
def test_the_measured_scale_factor_undoes_the_spread_of_the_latents(scale_factor):
    # exp(2 log 4 / 2) = 4 is the spread of these latents, whatever their mean is.
    built = with_moments(7.0, 2.7725887, scale_factor=scale_factor)
    found = unit_scale_factor(built, images(100), generator(0, "test/posterior"))
    assert found == pytest.approx(0.25, rel=0.03)
    assert built.spec.model_copy(update={"scale_factor": found}).scale_factor == found
