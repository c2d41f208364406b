from itertools import pairwise

import pytest
import torch

from etsdm.denoisers.wrappers import Inpainting
from etsdm.randomness import per_sample_normal
from etsdm.registry import samplers
from etsdm.samplers import DDIM, DDPM
from etsdm.schedules import Linear
from etsdm.targets import V
from etsdm.theory import ExactDenoiser, GaussianMixture, mixture

KNOWN = torch.tensor([[0.3, 0.0], [-1.2, 0.0], [2.0, 0.0]], dtype=torch.float64)
MASK = torch.tensor([[True, False]])
NOISE = per_sample_normal(0, "test/noise", range(3), (2,)).double()
SAMPLERS = [name for name in samplers.names() if name != "analytic"]  # which draws the clean image from q(x0 | x_t)


def clean(name):
    """A sampler with few steps that ends in the clean image."""
    sampler = samplers.create(name)
    return sampler.model_copy(update={"steps": 6, "t_end": None})


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_known_part_comes_out_as_it_is(name, dtype):
    denoiser = ExactDenoiser(mixture("m2"), Linear(), target=V())
    known = KNOWN.to(dtype)
    sampler = clean(name)
    *_, step = sampler.trajectory(Inpainting(denoiser, known, MASK, NOISE), 2 * NOISE.to(dtype))
    if sampler.type_name in ("lms", "plms"):  # whose last step adds a combination of equal eps, with weights that cancel
        torch.testing.assert_close(step.x[:, 0], known[:, 0], rtol=4 * torch.finfo(dtype).eps, atol=0)
    else:
        assert torch.equal(step.x[:, 0], known[:, 0])
    assert step.x.isfinite().all()
    assert (step.x[:, 1] - known[:, 1]).abs().min() > 1e-3


def test_pixels_that_do_not_depend_on_each_other_are_drawn_as_ever():
    denoiser = ExactDenoiser(GaussianMixture([[1.0, -0.5]], [0.4], [1.0]), Linear())
    for sampler in (DDIM(steps=9), DDPM(steps=9)):
        *_, free = sampler.trajectory(denoiser, NOISE)
        *_, partly = sampler.trajectory(Inpainting(denoiser, KNOWN, MASK, NOISE), NOISE)
        torch.testing.assert_close(partly.x[:, 1], free.x[:, 1])


def test_the_unknown_part_follows_the_known_one():
    # Two far and narrow clusters: the second coordinate is that of the cluster to which the first belongs.
    denoiser = ExactDenoiser(GaussianMixture([[-2.0, 1.0], [2.0, -1.0]], [0.1, 0.1], [0.5, 0.5]), Linear(), target=V())
    known = torch.tensor([[-2.0, 0.0], [2.0, 0.0]], dtype=torch.float64).repeat(8, 1)
    noise = per_sample_normal(1, "test/noise", range(16), (2,)).double()
    *_, step = DDIM(steps=50).trajectory(Inpainting(denoiser, known, MASK, noise), noise)
    assert (step.x[:, 1] * known[:, 0] < 0).all()


def test_the_network_is_shown_the_known_part_with_its_noise(tiny_denoiser):
    denoiser = tiny_denoiser(target="v", backbone={"out_channels": 2})
    x, known, noise = (per_sample_normal(0, f"test/{name}", range(2), (1, 8, 8)) for name in ("x", "known", "noise"))
    mask = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    mask[..., :4] = True
    alpha, sigma = (level.float() for level in Linear().alpha_sigma(300.0))
    shown = torch.cat([(alpha * known + sigma * noise)[..., :4], x[..., 4:]], dim=-1)
    inner, found = denoiser.predict(shown, 300.0), Inpainting(denoiser, known, mask, noise).predict(x, 300.0)
    assert torch.equal(found.x, shown)
    assert torch.equal(found.x0, torch.cat([known[..., :4], inner.x0[..., 4:]], dim=-1))
    assert torch.equal(found.eps, torch.cat([noise[..., :4], inner.eps[..., 4:]], dim=-1))
    torch.testing.assert_close(found.v, alpha * found.eps - sigma * found.x0)
    torch.testing.assert_close(found.score, -found.eps / sigma)
    assert torch.equal(found.variance_logit, inner.variance_logit)


def test_one_image_may_serve_a_whole_batch(tiny_denoiser):
    denoiser = tiny_denoiser()
    x, known = per_sample_normal(0, "test/x", range(3), (1, 8, 8)), per_sample_normal(0, "test/known", range(1), (1, 8, 8))
    one = Inpainting(denoiser, known, known > 0, known)
    each = Inpainting(denoiser, known.repeat(3, 1, 1, 1), known > 0, known)
    assert torch.equal(one.predict(x, 300.0).x0, each.predict(x, 300.0).x0)


def test_noise_that_sampling_starts_from_makes_the_whole_trajectory_agree():
    denoiser = Inpainting(ExactDenoiser(mixture("m2"), Linear(), target=V()), KNOWN, MASK, NOISE)
    alpha, sigma = Linear().alpha_sigma(980.0)
    steps = list(DDIM(steps=50, clip_x0=False).trajectory(denoiser, alpha * KNOWN + sigma * NOISE))
    for step, later in pairwise(steps):
        alpha, sigma = Linear().alpha_sigma(later.t)
        torch.testing.assert_close(step.x[:, 0], (alpha * KNOWN + sigma * NOISE)[:, 0])


def test_masks_and_images_that_do_not_fit_are_refused():
    denoiser = ExactDenoiser(mixture("m2"), Linear())
    with pytest.raises(ValueError, match=r"^mask: .* float64; give booleans, true where the image is known$"):
        Inpainting(denoiser, KNOWN, MASK.double(), NOISE)
    with pytest.raises(ValueError, match=r"^mask: its shape \(1, 3\) does not fit \(3, 2\) of the known images$"):
        Inpainting(denoiser, KNOWN, torch.ones(1, 3, dtype=torch.bool), NOISE)
    with pytest.raises(ValueError, match=r"^noise: its shape \(2,\) does not fit \(3, 2\) of the known images$"):
        Inpainting(denoiser, KNOWN, MASK, NOISE[0])
    with pytest.raises(ValueError, match=r"^mask: .* 3 .* 2; give one, or one for each image$"):
        Inpainting(denoiser, KNOWN, MASK, NOISE).predict(NOISE[:2], 300.0)


@pytest.mark.parametrize("settings", [{"clip_x0": True}, {"dynamic_threshold": 0.5}], ids=["clipped", "dynamic"])
def test_what_is_known_stays_known_when_x0_is_cut(settings):
    denoiser = Inpainting(ExactDenoiser(mixture("m2"), Linear(), target=V()), KNOWN, MASK, NOISE)
    *_, end = DDIM(steps=5, **settings).trajectory(denoiser, 2 * NOISE)
    assert torch.equal(end.x[:, 0], KNOWN[:, 0])
    # The start does not agree with the noise, and after the first step x does.
    alpha, sigma = Linear().alpha_sigma(100.0)
    *_, before = DDIM(steps=5, grid="linspace", t_end=100, **settings).trajectory(denoiser, 2 * NOISE)
    torch.testing.assert_close(before.x[:, 0], (alpha * KNOWN + sigma * NOISE)[:, 0], rtol=1e-12, atol=1e-12)


def test_what_the_denoiser_has_said_before_does_not_take_the_place_of_what_is_known():
    class Remembering(ExactDenoiser):
        def predict(self, x, t, **cond):
            said = super().predict(x, t, **cond)
            assert said.x0.isfinite().all()
            assert said.eps.isfinite().all()
            return said

    said = Inpainting(Remembering(mixture("m2"), Linear()), KNOWN, MASK, NOISE).predict(2 * NOISE, 500.0)
    assert torch.equal(said.x0[:, 0], KNOWN[:, 0])
    assert torch.equal(said.eps[:, 0], NOISE[:, 0])
