"""Step by step beside diffusers' schedulers, on the same network, noise and timesteps, in float32.

Where diffusers goes another way than the authors of a solver, we go theirs, and the settings here avoid it:

- Its singlestep scheduler of order 3 takes the second of the three calls of a `midpoint` step where a second-order midpoint step
  leads, and the authors where the polynomial does, as `heun` has it in both. Of order 2 it ends an even number of calls with two
  steps of order 1; the authors make that a step of order 2.
- Its multistep scheduler lowers the last orders below fifteen steps, the authors below ten.
- `taylor` of order 3 has the full second derivative in our multistep solver; neither diffusers nor the authors have that.
"""

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, DPMSolverSinglestepScheduler, UniPCMultistepScheduler

from etsdm.grids import Explicit
from etsdm.samplers import MultistepDPMSolver, SinglestepDPMSolver, UniPC
from etsdm.schedules import Linear
from etsdm.theory import ExactDenoiser, mixture

NETWORK = ExactDenoiser(mixture("m1"), Linear())
START = torch.tensor([-2.0, -0.7, 0.1, 0.9, 2.2])[:, None]
TYPES = {"dpmsolver": "midpoint", "taylor": "heun"}
ENDS = {"zero": None, "sigma_min": 0.0}  # timestep 0 has sigma_min

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning:diffusers")


def their_steps(scheduler):
    """x after each call."""
    x = START
    for t in scheduler.timesteps.tolist():
        x = scheduler.step(NETWORK.predict(x, t).eps, t, x).prev_sample
        yield x


def assert_same_steps(ours, theirs):
    ours, theirs = [step.x for step in ours], list(theirs)
    assert len(ours) == len(theirs)
    for k, (x, other) in enumerate(zip(ours, theirs, strict=True)):
        torch.testing.assert_close(x, other, rtol=1e-4, atol=1e-4, msg=lambda text, k=k: f"step {k + 1}: {text}")


@pytest.mark.parametrize("steps", [8, 20])
@pytest.mark.parametrize(("predicts", "end"), [("x0", "zero"), ("x0", "sigma_min"), ("eps", "sigma_min")])
@pytest.mark.parametrize(("order", "solver_type"), [(1, "dpmsolver"), (2, "dpmsolver"), (2, "taylor"), (3, "dpmsolver")])
def test_multistep_dpm_solver(order, solver_type, predicts, end, steps):
    scheduler = DPMSolverMultistepScheduler(
        solver_order=order,
        algorithm_type={"eps": "dpmsolver", "x0": "dpmsolver++"}[predicts],
        solver_type=TYPES[solver_type],
        final_sigmas_type=end,
        timestep_spacing="trailing",
    )
    scheduler.set_timesteps(steps)
    grid = Explicit(at=tuple(scheduler.timesteps.tolist()))
    ours = MultistepDPMSolver(steps=steps, order=order, predicts=predicts, solver_type=solver_type, grid=grid, t_end=ENDS[end])
    assert_same_steps(ours.trajectory(NETWORK, START), their_steps(scheduler))


@pytest.mark.parametrize(("predicts", "end"), [("x0", "zero"), ("x0", "sigma_min"), ("eps", "sigma_min")])
@pytest.mark.parametrize(("order", "solver_type"), [(2, "dpmsolver"), (2, "taylor"), (3, "taylor")])
def test_singlestep_dpm_solver(order, solver_type, predicts, end):
    steps = 20 if (order, end) == (3, "sigma_min") else 21
    scheduler = DPMSolverSinglestepScheduler(
        solver_order=order,
        algorithm_type={"eps": "dpmsolver", "x0": "dpmsolver++"}[predicts],
        solver_type=TYPES[solver_type],
        final_sigmas_type=end,
        lower_order_final=True,
    )
    scheduler.set_timesteps(timesteps=[round(1000 * (steps - k) / steps) - 1 for k in range(steps)])
    grid = Explicit(at=tuple(scheduler.timesteps.tolist()))
    sampler = SinglestepDPMSolver(steps=steps, order=order, predicts=predicts, solver_type=solver_type, grid=grid, t_end=ENDS[end])
    ours = list(sampler.trajectory(NETWORK, START))
    # diffusers' x after a call of a step that goes on is where the step asks next.
    whole = [x for step_order, x in zip([*scheduler.order_list[1:], 1], their_steps(scheduler), strict=True) if step_order == 1]
    assert_same_steps(ours, whole)


@pytest.mark.parametrize(
    ("variant", "predicts", "end", "lower_order_final"),
    [
        ("bh2", "x0", "zero", True),
        *[(variant, predicts, "sigma_min", lowers) for variant in ("bh1", "bh2") for predicts in ("eps", "x0") for lowers in (True, False)],
    ],
)
@pytest.mark.parametrize("order", [1, 2, 3])
def test_unipc(order, variant, predicts, end, lower_order_final):
    scheduler = UniPCMultistepScheduler(
        solver_order=order,
        predict_x0=predicts == "x0",
        solver_type=variant,
        lower_order_final=lower_order_final,
        final_sigmas_type=end,
        timestep_spacing="trailing",
    )
    scheduler.set_timesteps(12)
    grid = Explicit(at=tuple(scheduler.timesteps.tolist()))
    ours = UniPC(steps=12, order=order, predicts=predicts, variant=variant, lower_order_final=lower_order_final, grid=grid, t_end=ENDS[end])
    assert_same_steps(ours.trajectory(NETWORK, START), their_steps(scheduler))
