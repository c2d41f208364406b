"""Recorded and running originals: openai/guided-diffusion and CompVis/latent-diffusion (MIT) in float64, and diffusers."""

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
        ({"type": "cosine"}, {"beta_schedule": "squaredcos_cap_v2"}),
        ({"type": "cosine", "timesteps": 100}, {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 100}),
    ],
)
def test_betas_and_alpha_bar_are_those_of_diffusers(schedule, arguments):
    ours, theirs = schedules.parse(schedule), DDPMScheduler(**arguments)
    # diffusers computes in float32.
    torch.testing.assert_close(ours.betas, theirs.betas.double(), rtol=0, atol=1e-6)
    torch.testing.assert_close(ours.alpha_bar(torch.arange(ours.timesteps)), theirs.alphas_cumprod.double(), rtol=0, atol=1e-6)
