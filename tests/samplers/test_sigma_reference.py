"""Recorded runs of EDM's algorithm 2 (Karras et al. 2022) and of k-diffusion 0.1.1, on an exact denoiser in float64.

`samplers.json` was recorded from the original programs: final x and the number of network calls, for sigma from 80 to 0.002 with
rho = 7 and then 0. The data are the one-dimensional mixture m1.
"""

import json
from pathlib import Path

import pytest
import torch
from doubles import RecordedNoise

from etsdm.registry import samplers
from etsdm.schedules import EDM
from etsdm.theory import ExactDenoiser, mixture

REFERENCE = json.loads((Path(__file__).parents[1] / "reference" / "samplers.json").read_text())["sigma"]
# Where k-diffusion's names are not ours.
NAMES = {
    "dpm_2": "dpm2",
    "dpm_2_ancestral": "dpm2-ancestral",
    "dpmpp_2m": "dpm-solver++-2m",
    "dpmpp_2m_sde": "dpm-solver++-2m-sde",
    "dpmpp_2s_ancestral": "dpm-solver++-2s-ancestral",
    "dpmpp_3m_sde": "dpm-solver++-3m-sde",
    "dpmpp_sde": "dpm-solver++-sde",
    "euler_ancestral": "euler-ancestral",
}
FIELDS = ("churn", "s_min", "s_max", "s_noise", "eta")


def label(run):
    return f"{run['sampler']}-{run['steps']}-{'edm' if 'edm' in run['source'] else 'k'}-{run.get('eta', run.get('churn', ''))}"


@pytest.mark.parametrize("run", REFERENCE["runs"], ids=label)
def test_a_run_ends_where_the_original_ends(run):
    fields = {name: run[name] for name in FIELDS if name in run and run["sampler"] != "heun"}
    sampler = samplers.create(NAMES.get(run["sampler"], run["sampler"]), steps=run["steps"], grid="karras", **fields)
    start = 80 * torch.tensor(REFERENCE["x"], dtype=torch.float64)[:, None]
    *_, last = sampler.trajectory(ExactDenoiser(mixture("m1"), EDM()), start, RecordedNoise(1001))
    torch.testing.assert_close(last.x[:, 0], torch.tensor(run["x"], dtype=torch.float64), rtol=0, atol=1e-8)
    assert last.nfe == run["calls"]


def test_the_same_end_can_be_said_by_a_time_and_a_step_from_there_to_the_clean_image():
    denoiser, start = ExactDenoiser(mixture("m1"), EDM()), 80 * torch.tensor(REFERENCE["x"], dtype=torch.float64)[:, None]
    *_, last = samplers.create("heun", steps=18).trajectory(denoiser, start)
    *_, other = samplers.create("heun", steps=17, t_end=0.002, denoise_to_zero=True).trajectory(denoiser, start)
    torch.testing.assert_close(other.x, last.x, rtol=0, atol=1e-10)
    assert other.nfe == last.nfe == 35
