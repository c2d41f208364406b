"""Recorded and running originals: openai/guided-diffusion and CompVis/latent-diffusion (MIT), and diffusers (Apache-2.0)."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import DDPMScheduler

from etsdm.registry import schedules

RECORDED = json.loads((Path(__file__).parents[1] / "reference" / "schedules.json").read_text())


@pytest.mark.parametrize("name", RECORDED["alpha_bar"])
def test_alpha_bar_is_that_of_the_original(name):
    case = RECORDED["alpha_bar"][name]
    found = schedules.parse(case["schedule"]).alpha_bar(torch.tensor(RECORDED["at"]))
    torch.testing.assert_close(found, torch.tensor(case["values"], dtype=torch.float64), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("schedule", "arguments"),
    [
        ({"type": "linear"}, {"beta_schedule": "linear"}),
        ({"type": "linear", "timesteps": 250, "beta_end": 0.05}, {"beta_schedule": "linear", "num_train_timesteps": 250, "beta_end": 0.05}),
        ({"type": "quadratic"}, {"beta_schedule": "scaled_linear"}),
        (
            {"type": "quadratic", "beta_start": 0.00085, "beta_end": 0.012},
            {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
        ),
        ({"type": "ldm"}, {"beta_schedule": "scaled_linear", "beta_start": 0.0015, "beta_end": 0.0195}),
        ({"type": "cosine"}, {"beta_schedule": "squaredcos_cap_v2"}),
        ({"type": "cosine", "timesteps": 100}, {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 100}),
    ],
)
def test_betas_and_alpha_bar_are_those_of_diffusers(schedule, arguments):
    ours, theirs = schedules.parse(schedule), DDPMScheduler(**arguments)
    # diffusers computes in float32.
    torch.testing.assert_close(ours.betas, theirs.betas.double(), rtol=0, atol=1e-6)
    torch.testing.assert_close(ours.alpha_bar(torch.arange(int(ours.horizon))), theirs.alphas_cumprod.double(), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("base", "arguments"),
    [
        ("linear", {"beta_schedule": "linear"}),
        ("sd", {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}),
    ],
)
def test_rescaled_schedules_are_those_of_diffusers(base, arguments):
    ours, theirs = schedules.create("zero-terminal-snr", base=base), DDPMScheduler(rescale_betas_zero_snr=True, **arguments)
    torch.testing.assert_close(ours.alpha_bar(torch.arange(1000)), theirs.alphas_cumprod.double(), rtol=0, atol=1e-6)
    # Near the end its betas are quotients of float32 numbers that vanish.
    torch.testing.assert_close(ours.betas, theirs.betas.double(), rtol=0, atol=1e-5)
    assert ours.betas[-1] == 1


def test_what_latent_diffusion_calls_linear_is_quadratic():
    # Its `linear` and diffusers' `scaled_linear` space the roots of beta equally; names are compared by their arrays.
    found = {name: schedules.create(name, beta_start=0.0015, beta_end=0.0195).betas for name in ("linear", "quadratic")}
    theirs = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.0015, beta_end=0.0195).betas.double()
    torch.testing.assert_close(found["quadratic"], theirs, rtol=0, atol=1e-6)
    assert (found["linear"] - theirs).abs().max() > 2e-3
    assert torch.equal(schedules.create("ldm").betas, found["quadratic"])
