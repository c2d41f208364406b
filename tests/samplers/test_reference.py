"""Every recorded run of openai/guided-diffusion (MIT): its ancestral and DDIM loops, with the coefficients kept in float64.

The network is the exact noise prediction of a one-dimensional Gaussian mixture, so final values agree where grid, order and
update are the same.
"""

import json
from pathlib import Path

import pytest
import torch
from doubles import RecordedNoise, ThirdParty

from etsdm.registry import schedules
from etsdm.samplers import DDIM, DDPM

REFERENCE = json.loads((Path(__file__).parents[1] / "reference" / "ddpm.json").read_text())
VARIANCES = {"fixed_large": "beta", "fixed_small": "posterior"}


MEAN, SD, WEIGHT = torch.tensor([[-1.5, 0.2, 1.4], [0.3, 0.5, 0.4], [0.3, 0.5, 0.2]], dtype=torch.float64)


def mixture(schedule):
    """The exact denoiser of 0.3 N(-1.5, 0.3^2) + 0.5 N(0.2, 0.5^2) + 0.2 N(1.4, 0.4^2), for x of shape (B, 1)."""

    def eps(x, t):
        alpha, sigma = schedule.alpha_sigma(t)
        variance = alpha**2 * SD**2 + sigma**2
        gap = x - alpha * MEAN
        share = (WEIGHT.log() - 0.5 * variance.log() - 0.5 * gap**2 / variance).softmax(-1)
        return sigma * (share * gap / variance).sum(-1, keepdim=True)  # -sigma times the score

    return ThirdParty(schedule, eps)


def sampler(run):
    """Ours with the settings of a recorded run."""
    if run["sampler"] == "ddpm":
        steps, variance = int(run["respacing"]), VARIANCES[run["variance"]]
        return DDPM(steps=steps, variance=variance, clip_x0=run["clip_x0"], grid="respaced")
    return DDIM(steps=int(run["respacing"].removeprefix("ddim")), eta=run["eta"], clip_x0=run["clip_x0"], grid="leading")


def label(run):
    settings = run.get("variance") or f"eta-{run['eta']:g}"
    return f"{run['sampler']}-{run['schedule']}-{run['respacing']}-{settings}{'-clipped' if run['clip_x0'] else ''}"


@pytest.mark.parametrize("run", REFERENCE["runs"], ids=label)
def test_a_run_ends_where_the_original_ends(run):
    start = torch.tensor(REFERENCE["start"]["x"], dtype=torch.float64)[:, None]
    denoiser = mixture(schedules.create(run["schedule"]))
    *_, last = sampler(run).trajectory(denoiser, start, RecordedNoise(2001))
    torch.testing.assert_close(last.x[:, 0], torch.tensor(run["x"], dtype=torch.float64), rtol=0, atol=1e-8)
    calls = int(run["respacing"].removeprefix("ddim"))
    assert last.nfe == len(denoiser.times) == calls
    # The original lists its timesteps in increasing order, the middle of a long list left out.
    head, tail = (run["timesteps"][:3], run["timesteps"][-2:]) if "..." in run["timesteps"] else (run["timesteps"], run["timesteps"][-2:])
    visited = denoiser.times[::-1]
    assert visited[: len(head)] == head
    assert visited[-2:] == tail
