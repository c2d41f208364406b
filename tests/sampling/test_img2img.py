import pytest
import torch

from etsdm.randomness import SampleNoise, per_sample_normal
from etsdm.samplers import DDIM, DDPM
from etsdm.sampling import img2img
from etsdm.schedules import Linear
from etsdm.theory import ExactDenoiser, GaussianMixture

C = 0.5
GAUSSIAN = ExactDenoiser(GaussianMixture([[0.0]], [C], [1.0]), Linear())
IMAGES = torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None]


def test_an_image_is_noised_to_the_start_and_sampled_from_there():
    # On Gaussian data a DDIM step from t to s multiplies x by a_s (1 - s_t g_t) / a_t + s_s g_t, g = s / (a^2 c^2 + s^2).
    times = [300.0, 200.0, 100.0, 0.0]
    levels = [tuple(level.item() for level in Linear().alpha_sigma(t)) for t in times]
    x = levels[0][0] * IMAGES + levels[0][1] * per_sample_normal(3, "sampling/noise", range(5), (1,)).double()
    for (alpha, sigma), (alpha_s, sigma_s) in zip(levels, [*levels[1:], (1.0, 0.0)], strict=True):
        g = sigma / (alpha**2 * C**2 + sigma**2)
        x = (alpha_s * (1 - sigma * g) / alpha + sigma_s * g) * x
    found = img2img(GAUSSIAN, IMAGES, start=300, sampler=DDIM(steps=4, grid="linspace"), seed=3)
    torch.testing.assert_close(found, x, rtol=1e-12, atol=1e-12)


def test_the_earlier_the_start_the_more_is_left():
    far, near, nearest = ((img2img(GAUSSIAN, IMAGES, start=t, steps=5) - IMAGES).abs().max() for t in (800, 100, 5))
    assert far > 3 * near > 9 * nearest > 0


def test_an_image_depends_on_its_index_and_not_on_its_batch():
    sampler = DDPM(steps=3)
    together = img2img(GAUSSIAN, IMAGES, start=300, sampler=sampler, seed=1)
    assert torch.equal(img2img(GAUSSIAN, IMAGES[2:4], start=300, sampler=sampler, seed=1, first=2), together[2:4])
    assert not torch.equal(img2img(GAUSSIAN, IMAGES, start=300, sampler=sampler, seed=2), together)


def test_noise_comes_from_the_streams_of_sampling():
    sampler = DDPM(steps=3)
    alpha, sigma = Linear().alpha_sigma(300.0)
    x = alpha * IMAGES + sigma * per_sample_normal(1, "sampling/noise", range(5), (1,)).double()
    *_, step = sampler.trajectory(GAUSSIAN, x, SampleNoise(1, "sampling/steps", range(5)), start=300)
    assert torch.equal(img2img(GAUSSIAN, IMAGES, start=300, sampler=sampler, seed=1), step.x)


def test_a_grid_that_stops_before_the_start_noises_to_its_first_time():
    sampler = DDIM(steps=3, grid="leading")  # 200, 100, 0 of the 301 timesteps
    with pytest.warns(UserWarning, match=r"grid 'leading' begins at t = 200, not at the start 300, .* give grid auto or trailing"):
        found = img2img(GAUSSIAN, IMAGES, start=300, sampler=sampler)
    alpha, sigma = Linear().alpha_sigma(200.0)
    *_, step = sampler.trajectory(
        GAUSSIAN, alpha * IMAGES + sigma * per_sample_normal(0, "sampling/noise", range(5), (1,)).double(), start=300
    )
    assert torch.equal(found, step.x)


def test_labels_reach_the_network(tiny_denoiser):
    denoiser = tiny_denoiser(target="v", backbone={"num_classes": 3})
    images = per_sample_normal(0, "test/x", range(2), (1, 8, 8))
    one, other = (img2img(denoiser, images, start=300, steps=2, y=torch.tensor(y)) for y in ([0, 0], [0, 1]))
    assert one.dtype == torch.float32
    torch.testing.assert_close(one[0], other[0])
    assert (one[1] - other[1]).abs().max() > 1e-4


def test_a_start_outside_the_schedule_is_refused():
    with pytest.raises(ValueError, match=r"^start: "):
        img2img(GAUSSIAN, IMAGES, start=1200, sampler=DDIM(steps=3, grid="linspace"))
