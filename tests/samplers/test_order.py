"""Measured order of the deterministic solvers of the sigma family, on exact scores, against an integrator of scipy's."""

from functools import cache
from itertools import pairwise
from math import log

import pytest
import torch
from scipy.integrate import solve_ivp

from etsdm.registry import samplers, schedules
from etsdm.theory import ExactDenoiser, mixture

DATA = mixture("m1")
STARTS = torch.tensor([-2.0, -0.7, 0.1, 0.9, 2.2], dtype=torch.float64)[:, None]
END = 0.05
START = {"edm": 80.0, "linear-continuous": 1.0}
# With a number of steps from which on the error falls as it does in the limit.
SOLVERS = [
    ("euler", {}, 1, 40),
    ("euler-ancestral", {"eta": 0}, 1, 40),
    ("heun", {}, 2, 40),
    ("edm-stochastic", {"churn": 0}, 2, 40),
    ("dpm2", {}, 2, 40),
    ("dpm2-ancestral", {"eta": 0}, 2, 40),
    ("dpm-solver++-2s-ancestral", {"eta": 0}, 2, 40),
    ("dpm-solver++-sde", {"eta": 0}, 2, 40),
    ("dpm-solver++-2m-sde", {"eta": 0}, 2, 40),
    ("dpm-solver++-3m-sde", {"eta": 0}, 2, 80),
    ("lms", {"order": 1}, 1, 40),
    ("lms", {"order": 2}, 2, 40),
    ("lms", {"order": 3}, 3, 80),
    ("lms", {"order": 4}, 4, 80),
]


@cache
def flow_end(name, start):
    """x at the end of dy/dk = eps for y = x/alpha and k = sigma/alpha, integrated in log k."""
    schedule = schedules.create(name)

    def rate(log_k, y):
        k = torch.tensor(log_k, dtype=torch.float64).exp()
        return (k * DATA.marginal(torch.from_numpy(y)[:, None], torch.ones_like(k), k).eps[:, 0]).numpy()

    span = [-schedule.log_snr(t).item() / 2 for t in (start, END)]
    y = (STARTS * schedule.sigma(start) / schedule.alpha(start))[:, 0].numpy()
    found = solve_ivp(rate, span, y, method="DOP853", rtol=1e-12, atol=1e-13).y[:, -1]
    return torch.tensor(found)[:, None] * schedule.alpha(END)


def orders(name, schedule, ns, start=None, **fields):
    """Measured order between successive numbers of steps."""
    denoiser = ExactDenoiser(DATA, schedules.create(schedule))
    start = START[schedule] if start is None else start
    errors = []
    for n in ns:
        trajectory = samplers.create(name, steps=n, t_end=END, **fields).trajectory
        *_, last = trajectory(denoiser, STARTS * denoiser.schedule.sigma(start), start=start)
        errors.append((last.x - flow_end(schedule, start)).abs().max().item())
    return [log(coarse / fine) / log(m / n) for (n, coarse), (m, fine) in pairwise(zip(ns, errors, strict=True))]


@pytest.mark.parametrize(("schedule", "grid"), [("edm", "karras"), ("linear-continuous", "log-snr")])
@pytest.mark.parametrize(("name", "fields", "order", "n"), SOLVERS, ids=str)
def test_a_solver_has_its_order(name, fields, order, n, schedule, grid):
    assert orders(name, schedule, [n, 2 * n], grid=grid, **fields) == pytest.approx([order], abs=0.25)


def test_pseudo_linear_multistep_has_order_2_as_its_authors_proved():
    assert orders("plms", "linear-continuous", [80, 160], grid="linspace") == pytest.approx([2], abs=0.25)


def test_linear_multistep_is_of_order_2_where_its_first_steps_matter():
    # The first step is Euler's, whose error of h^2 is made once; from sigma = 80 on, where paths are straight, it is nothing.
    assert orders("lms", "edm", [80, 160], start=2.0, grid="karras") == pytest.approx([2], abs=0.25)
