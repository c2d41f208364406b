"""The schedule of a table of alpha_bar."""

import pytest
import torch

from etsdm.errors import PartError
from etsdm.interop.schedule_search import find_schedule, schedule_of
from etsdm.schedules import Cosine, Linear, Quadratic, ZeroTerminal

diffusers = pytest.importorskip("diffusers")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, Linear()),
        ({"num_train_timesteps": 50, "beta_end": 0.3}, Linear(timesteps=50, beta_end=0.3)),
        ({"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}, Quadratic(beta_start=0.00085, beta_end=0.012)),
        ({"beta_schedule": "squaredcos_cap_v2"}, Cosine()),
        ({"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 4000}, Cosine(timesteps=4000)),
        ({"rescale_betas_zero_snr": True}, ZeroTerminal(base=Linear())),
        ({"rescale_betas_zero_snr": True, "beta_schedule": "squaredcos_cap_v2"}, ZeroTerminal(base=Cosine())),
        ({"num_train_timesteps": 4000}, Linear(timesteps=4000)),  # ends at 2e-18
    ],
)
def test_tables_of_diffusers_schedulers_are_found(options, expected):
    assert schedule_of(diffusers.DDPMScheduler(**options).alphas_cumprod) == expected


def test_one_tolerance_serves_given_ends_and_those_of_the_table():
    table = Linear(beta_end=0.0201).alpha_bar(STEPS).float()
    assert find_schedule(table) == find_schedule(table, [(1e-4, 0.02), (1e-4, 0.0201)]) == schedule_of(table) == Linear(beta_end=0.0201)
    for wrong in (table * (1 - 1e-3), 1 - (1 - table) * (1 + 1e-3)):
        assert find_schedule(wrong) is None


STEPS = torch.arange(1000)
MIXED = (Linear().alpha_bar(STEPS) + Cosine().alpha_bar(STEPS)) / 2


@pytest.mark.parametrize("table", [diffusers.DDPMScheduler(beta_schedule="sigmoid").alphas_cumprod, MIXED])
def test_other_schedules_are_refused(table):
    with pytest.raises(PartError, match=r"^schedule: alpha_bar from .* is neither linear, quadratic, cosine"):
        schedule_of(table)


@pytest.mark.parametrize("table", [torch.ones(5), torch.tensor([0.9]), torch.tensor([0.9, 0.95, 0.1]), torch.tensor([0.9, torch.nan, 0.1])])
def test_what_does_not_fall_is_no_schedule(table):
    with pytest.raises(PartError, match=r"^schedule: \d values of alpha_bar that do not fall"):
        schedule_of(table)
