"""Measured order of the solvers in log-SNR, on exact scores, against an integrator of scipy's."""

from functools import cache
from math import log

import pytest
import torch
from scipy.integrate import solve_ivp

from etsdm.samplers import MultistepDPMSolver, SinglestepDPMSolver, UniPC
from etsdm.schedules import LinearContinuous
from etsdm.theory import ExactDenoiser, mixture

SCHEDULE, DATA = LinearContinuous(), mixture("m1")
STARTS = torch.tensor([-2.0, -0.7, 0.1, 0.9, 2.2], dtype=torch.float64)[:, None]
END = 0.05
BOTH = pytest.mark.parametrize("predicts", ["eps", "x0"])


@cache
def flow_end(start):
    """x at the end of d(x/alpha)/dlambda = -e^-lambda eps."""

    def rate(lam, y):
        alpha, sigma = (torch.tensor(sign * 2 * lam, dtype=torch.float64).sigmoid().sqrt() for sign in (1, -1))
        return (-sigma / alpha * DATA.marginal(alpha * torch.from_numpy(y)[:, None], alpha, sigma).eps[:, 0]).numpy()

    span = [SCHEDULE.log_snr(t).item() / 2 for t in (start, END)]
    found = solve_ivp(rate, span, (STARTS / SCHEDULE.alpha(start))[:, 0].numpy(), method="DOP853", rtol=1e-12, atol=1e-12)
    return torch.tensor(found.y[:, -1])[:, None] * SCHEDULE.alpha(END)


def measured(solver, few, many, *, start=1.0, **fields):
    errors = []
    for steps in (few, many):
        sampler = solver(steps=steps, grid="log-snr", t_end=END, **fields)
        *_, last = sampler.trajectory(ExactDenoiser(DATA, SCHEDULE), STARTS, start=start)
        errors.append((last.x - flow_end(start)).abs().max())
    return log(errors[0] / errors[1]) / log(many / few)


@BOTH
@pytest.mark.parametrize("solver_type", ["dpmsolver", "taylor"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_a_singlestep_solver_has_its_order(order, solver_type, predicts):
    # 3k + 2 calls, so that the last step of a third-order solver is of order 2, which makes an error of h^3 once.
    few, many = (122, 242) if order == 3 else (62, 122)
    found = measured(SinglestepDPMSolver, few, many, order=order, solver_type=solver_type, predicts=predicts)
    assert found == pytest.approx(order, abs=0.25)


@BOTH
@pytest.mark.parametrize(
    ("order", "solver_type", "theory"),
    [(1, "dpmsolver", 1), (2, "dpmsolver", 2), (2, "taylor", 2), (3, "taylor", 3), (3, "dpmsolver", 2)],
)
def test_a_multistep_solver_has_its_order(order, solver_type, theory, predicts):
    # The authors' third-order weights have half of the second derivative, which makes an error of h^3 in every step.
    few = 128 if theory == 3 else 64
    found = measured(MultistepDPMSolver, few, 2 * few, order=order, solver_type=solver_type, predicts=predicts)
    assert found == pytest.approx(theory, abs=0.25)


def test_a_multistep_solver_is_of_order_2_where_its_first_steps_matter():
    # The first step is of order 1 and makes an error of h^2 once; it is nothing from t = 1, where eps hardly changes.
    found = measured(MultistepDPMSolver, 128, 256, start=0.8, order=3, solver_type="taylor", predicts="x0")
    assert found == pytest.approx(2, abs=0.25)


@BOTH
@pytest.mark.parametrize("variant", ["bh1", "bh2"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_correcting_raises_the_order_of_unipc_by_one(order, variant, predicts):
    found = measured(UniPC, 64, 128, order=order, variant=variant, predicts=predicts, lower_order_final=False)
    assert found == pytest.approx(order + 1, abs=0.25)


@BOTH
def test_a_last_step_of_lower_order_makes_unipc_one_of_order_2(predicts):
    # A step of order 1 that is not corrected makes an error of h^2 once.
    assert measured(UniPC, 64, 128, order=3, predicts=predicts) == pytest.approx(2, abs=0.25)


@BOTH
@pytest.mark.parametrize(("order", "theory"), [(1, 2), (2, 1), (3, 1)])
def test_the_authors_corrector_of_varying_coefficients_is_of_order_1_from_two_values_on(order, theory, predicts):
    found = measured(UniPC, 64, 128, order=order, variant="vary_coeff", predicts=predicts, lower_order_final=False)
    assert found == pytest.approx(theory, abs=0.25)
