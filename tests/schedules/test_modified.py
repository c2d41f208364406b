"""Schedules that start without singularity; numbers from the paper, section D.3.2, and derived from its definitions."""

import pytest
import torch

from etsdm.registry import schedules
from etsdm.schedules import Cosine, Linear, ModifiedQuadratic, Quadratic, QuadraticContinuous


def snr_ratio(new, old, *indices):
    t = torch.tensor(indices)
    return (new.snr(t) / old.snr(t)).tolist()


@pytest.mark.parametrize(
    ("new", "old", "ratios"),
    [
        (Linear(beta_start=0, grid="linspace-from-zero"), Linear(), {1: 10.99, 10: 2.00, 50: 1.20, 100: 1.10, 999: 1.05}),
        (
            ModifiedQuadratic(grid="linspace-from-zero"),
            Quadratic(),
            {1: 9407, 10: 151, 50: 9.99, 100: 4.06, 200: 2.13, 500: 1.38, 999: 1.000},
        ),
        (Quadratic(beta_start=0, grid="linspace-from-zero"), Quadratic(), {999: 1.66}),  # the last beta not raised
        (schedules.create("modified-cosine"), Cosine(), {0: 16.73, 1: 8.86, 10: 2.42, 50: 1.29, 998: 1.02}),
    ],
    ids=["linear", "quadratic", "quadratic, last beta kept", "cosine"],
)
def test_snr_is_magnified_as_published(new, old, ratios):
    # Printed to three or four digits.
    assert snr_ratio(new, old, *ratios) == pytest.approx(list(ratios.values()), rel=5e-3)


@pytest.mark.parametrize(("grid", "last"), [("paper", 0.02150200), ("linspace-from-zero", 0.02150229)])
def test_the_last_beta_of_the_quadratic_one_is_raised(grid, last):
    assert ModifiedQuadratic(grid=grid).betas[-1].item() == pytest.approx(last, abs=5e-9)


@pytest.mark.parametrize("timesteps", [2, 10, 1000])
def test_the_quadratic_one_ends_with_the_snr_of_the_original(timesteps):
    original = Quadratic(timesteps=timesteps, grid="paper")
    assert snr_ratio(ModifiedQuadratic(timesteps=timesteps), original, timesteps - 1) == pytest.approx([1], rel=1e-12)


def test_the_continuous_quadratic_one_ends_with_the_snr_of_the_original():
    new = schedules.create("modified-quadratic-continuous")
    assert new.beta_max == pytest.approx(21.514214, abs=5e-7)
    assert new.log_snr(1.0).item() == pytest.approx(QuadraticContinuous().log_snr(1.0).item(), rel=1e-14)
    assert ModifiedQuadratic().continuous.beta_max == pytest.approx(new.beta_max, rel=1e-14)


def test_betas_are_powers_of_the_timestep():
    linear, quadratic = schedules.create("modified-linear", timesteps=4), ModifiedQuadratic(timesteps=4)
    torch.testing.assert_close(linear.betas, 0.02 * torch.tensor([0.25, 0.5, 0.75, 1], dtype=torch.float64))
    torch.testing.assert_close(quadratic.betas / quadratic.betas[-1], torch.tensor([1, 4, 9, 16], dtype=torch.float64) / 16)


@pytest.mark.parametrize("name", ["modified-linear", "modified-quadratic", "modified-cosine"])
def test_every_timestep_has_noise(name):
    assert schedules.create(name).sigma(torch.arange(1000)).min() > 0


def test_from_zero_on_a_linear_space_the_first_timestep_has_none():
    assert ModifiedQuadratic(grid="linspace-from-zero").sigma(0) == 0
    assert Linear(beta_start=0, grid="linspace-from-zero").sigma(0) == 0


def test_one_timestep_cannot_end_as_the_original():
    with pytest.raises(ValueError, match="timesteps"):
        ModifiedQuadratic(timesteps=1)
