"""Rescaling to zero SNR at the end (Lin et al. 2024, algorithm 1)."""

import mpmath as mp
import pytest
import torch

from etsdm.registry import format_errors, schedules
from etsdm.schedules import (
    Cosine,
    CosineContinuous,
    Linear,
    LinearContinuous,
    Quadratic,
    ZeroTerminal,
    ZeroTerminalContinuous,
)

BASES = [Linear(), Quadratic(beta_start=0.00085, beta_end=0.012), Cosine(), Linear(timesteps=3), Linear(timesteps=2)]
every_base = pytest.mark.parametrize("base", BASES, ids=str)


def algorithm_1(betas):
    """alpha and sigma by the published steps, with 60 digits."""
    with mp.workdps(60):
        root, roots = mp.mpf(1), []
        for beta in betas.tolist():
            root *= mp.sqrt(1 - mp.mpf(beta))
            roots.append(root)
        first, last = roots[0], roots[-1]
        alpha = [(root - last) * first / (first - last) for root in roots]
        rows = [[float(a) for a in alpha], [float(mp.sqrt(1 - a * a)) for a in alpha]]
    return torch.tensor(rows, dtype=torch.float64)


@every_base
def test_alpha_and_sigma_are_those_of_the_published_steps(base):
    found = torch.stack(ZeroTerminal(base=base).alpha_sigma(torch.arange(int(base.horizon))))
    torch.testing.assert_close(found, algorithm_1(base.betas), rtol=2e-14, atol=0)


@every_base
def test_the_last_timestep_has_no_signal_and_the_first_keeps_its_own(base):
    rescaled = ZeroTerminal(base=base)
    end = base.horizon - 1
    assert rescaled.alpha(end) == 0
    assert rescaled.sigma(end) == 1
    assert rescaled.log_snr(end) == -torch.inf
    assert rescaled.betas[-1] == 1
    assert rescaled.alpha(0).item() == pytest.approx(base.alpha(0).item(), rel=1e-15)
    assert rescaled.sigma(0).item() == pytest.approx(base.sigma(0).item(), rel=2e-15)
    assert rescaled.horizon == base.horizon


def test_the_first_level_of_noise_of_the_default_is_one_percent():
    assert ZeroTerminal().sigma(0).item() == pytest.approx(0.01, rel=1e-14)


def test_what_has_no_signal_at_the_end_stays_as_it_is():
    once, twice = ZeroTerminal(), ZeroTerminal(base=ZeroTerminal())
    torch.testing.assert_close(twice.alpha(torch.arange(1000)), once.alpha(torch.arange(1000)), rtol=1e-11, atol=0)
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    torch.testing.assert_close(ZeroTerminalContinuous(base=CosineContinuous()).alpha(t), CosineContinuous().alpha(t))


def test_between_timesteps_it_interpolates_its_own_log_snr_not_that_of_the_base():
    rescaled = ZeroTerminal()
    middle = (rescaled.log_snr(997) + rescaled.log_snr(998)) / 2
    assert rescaled.log_snr(997.5).item() == pytest.approx(middle.item(), rel=1e-14)
    # Before the last timestep alpha falls linearly: half of it is left at 998.5.
    snr = rescaled.snr(998).item() / 4
    assert rescaled.snr(998.5).item() == pytest.approx(snr, rel=1e-14)


def test_many_timesteps_approach_the_continuous_schedule():
    fraction = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    errors = []
    for timesteps in (1000, 4000):
        many = ZeroTerminal(base=Linear(timesteps=timesteps, beta_start=0.1 / timesteps, beta_end=20 / timesteps))
        assert many.continuous == ZeroTerminalContinuous(base=LinearContinuous())
        errors.append((many.log_snr(fraction * timesteps - 1) - many.continuous.log_snr(fraction)).abs().max().item())
    assert errors[1] < errors[0] / 3
    assert errors[1] < 2e-2


def test_it_is_made_from_names():
    made = schedules.parse({"type": "zero-terminal-snr", "base": {"type": "quadratic", "timesteps": 10}})
    assert made == ZeroTerminal(base=Quadratic(timesteps=10))
    assert made.horizon == 10
    assert made.model_dump()["base"]["type"] == "quadratic"


@pytest.mark.parametrize(
    ("kind", "base", "message"),
    [
        (
            ZeroTerminal,
            "linear-continuous",
            "'linear-continuous' is continuous; give a discrete schedule, or use zero-terminal-snr-continuous",
        ),
        (
            ZeroTerminal,
            Linear(timesteps=1),
            "'linear' has one timestep, which cannot keep its signal and lose it; give timesteps: 2 or more",
        ),
        (ZeroTerminalContinuous, "linear", "'linear' is discrete; give a continuous schedule, or use zero-terminal-snr"),
        (ZeroTerminalContinuous, "flow", "'flow' does not preserve variance; give a schedule with alpha^2 + sigma^2 = 1"),
        (ZeroTerminalContinuous, "vp-edm", "'vp-edm' does not preserve variance; give a schedule with alpha^2 + sigma^2 = 1"),
    ],
)
def test_a_base_of_another_kind_is_refused_with_the_mend(kind, base, message):
    with pytest.raises(ValueError, match="base") as error:
        kind(base=base)
    assert [(problem.field, problem.message) for problem in format_errors(error.value)] == [("base", message)]
