"""Step by step the same as diffusers' schedulers, in float32 on the same network, noise and times.

The schedulers of the sigma family step in y = x/alpha and scale the network's input; their y after a step is compared with our
x/alpha, times alpha. Times are integers, `leading` or `trailing`, or those of Karras's grid: between integers these schedulers
interpolate sigma/alpha itself on their other grids, and we always interpolate log-SNR, as they do on Karras's.
"""

from itertools import pairwise

import diffusers
import pytest
import torch

from etsdm.randomness import generator, per_sample_normal
from etsdm.samplers import DDIM, DDPM, DPM2, LMS, PLMS, Euler, EulerAncestral, Heun
from etsdm.schedules import Linear
from etsdm.theory import ExactDenoiser, mixture

pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")  # diffusers' own, with numpy 2
DENOISER = ExactDenoiser(mixture("m1"), Linear())
NOISE = per_sample_normal(0, "test/diffusers", range(8), (1,))
N = 10
BETAS = {"beta_start": 1e-4, "beta_end": 0.02}  # of `linear`, which are not every scheduler's own


class SameNoise:
    """Draws what diffusers draws from a generator with the same start."""

    def __init__(self):
        self.generator = stream()

    def draw(self, shape):
        return torch.randn(len(NOISE), *shape, generator=self.generator)


def stream():
    return generator(0, "test/diffusers/steps")


def eps(x, t):
    return DENOISER.predict(x, float(t)).eps


def images_after_steps(sampler, noise=None):
    return [step.x for step in sampler.trajectory(DENOISER, NOISE, noise)]


def same(found, expected):
    assert len(found) == len(expected)
    for step, (one, other) in enumerate(zip(found, expected, strict=True), start=1):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4, msg=lambda text, step=step: f"step {step}: {text}")


def theirs(scheduler, **options):
    """x after every call of a scheduler that steps in x."""
    scheduler.set_timesteps(N)
    x, found = NOISE, []
    for t in scheduler.timesteps:
        x = scheduler.step(eps(x, t), t, x, **options).prev_sample
        found.append(x)
    return found


def theirs_in_y(scheduler, path, calls=1, **options):
    """x at every point of a path after the first, of a scheduler that steps in y; `calls` of the network a step."""
    scheduler.set_timesteps(N)
    y, found = NOISE / path[0].alpha, []
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(y, t)
        y = scheduler.step(eps(scaled, t), t, y, **options).prev_sample
        found.append(y)
    # Of the last step there is always one call.
    ends = [*found[calls - 1 : -1 : calls], found[-1]]
    return [y * point.alpha for y, point in zip(ends, path[1:], strict=True)]


@pytest.mark.parametrize(("variance", "name"), [("beta", "fixed_large"), ("posterior", "fixed_small")])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_ddpm(spacing, variance, name):
    scheduler = diffusers.DDPMScheduler(variance_type=name, timestep_spacing=spacing, clip_sample=False)
    found = images_after_steps(DDPM(steps=N, variance=variance, grid=spacing), SameNoise())
    expected = theirs(scheduler, generator=stream())
    if (spacing, variance) == ("trailing", "beta"):
        # Theirs adds noise of variance beta to the clean image of the last step, unless it starts at timestep 0; ours never does.
        assert (expected.pop() - found.pop()).abs().max() > 0.1
    same(found, expected)


@pytest.mark.parametrize("eta", [0.0, 0.5])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_ddim(spacing, eta):
    scheduler = diffusers.DDIMScheduler(timestep_spacing=spacing, clip_sample=False)
    found = images_after_steps(DDIM(steps=N, eta=eta, grid=spacing), SameNoise())
    same(found, theirs(scheduler, eta=eta, generator=stream()))


def test_clipped_ddim():
    # Theirs keeps the noise that the network said beside the clipped x0, unless it is told otherwise; ours follows x0.
    scheduler = diffusers.DDIMScheduler(timestep_spacing="trailing", clip_sample=True)
    same(images_after_steps(DDIM(steps=N, grid="trailing", clip_x0=True)), theirs(scheduler, use_clipped_model_output=True))


def test_plms():
    # diffusers visits the second time twice, which is our first step's second call; set_alpha_to_one ends in the clean image.
    scheduler = diffusers.PNDMScheduler(skip_prk_steps=True, set_alpha_to_one=True)
    _, *rest = theirs(scheduler)
    assert len(rest) == N
    same(images_after_steps(PLMS(steps=N)), rest)


PEERS = {
    "euler": (Euler, diffusers.EulerDiscreteScheduler, 1),
    "euler-ancestral": (EulerAncestral, diffusers.EulerAncestralDiscreteScheduler, 1),
    "heun": (Heun, diffusers.HeunDiscreteScheduler, 2),
    "dpm2": (DPM2, diffusers.KDPM2DiscreteScheduler, 2),
    "lms": (LMS, diffusers.LMSDiscreteScheduler, 1),
}


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_samplers_of_the_sigma_family(name, spacing):
    ours, scheduler, calls = PEERS[name]
    sampler = ours(steps=N, grid=spacing)
    options = {"generator": stream()} if name == "euler-ancestral" else {}
    found = images_after_steps(sampler, SameNoise())
    same(found, theirs_in_y(scheduler(timestep_spacing=spacing, **BETAS), sampler.path(DENOISER), calls, **options))


@pytest.mark.parametrize("name", ["euler", "heun", "lms"])  # the others know no such grid, or round its times
def test_samplers_of_the_sigma_family_on_the_grid_of_karras(name):
    ours, scheduler, calls = PEERS[name]
    sampler = ours(steps=N, grid="karras")
    same(images_after_steps(sampler), theirs_in_y(scheduler(use_karras_sigmas=True, **BETAS), sampler.path(DENOISER), calls))


def test_times_of_the_schedulers_are_ours():
    for spacing in ("leading", "trailing"):
        scheduler = diffusers.EulerDiscreteScheduler(timestep_spacing=spacing)
        scheduler.set_timesteps(N)
        assert scheduler.timesteps.tolist() == Euler(steps=N, grid=spacing).times(DENOISER).tolist()
    assert all(one > other for one, other in pairwise(Euler(steps=N).times(DENOISER).tolist()))
