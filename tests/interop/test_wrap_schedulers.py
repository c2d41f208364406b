"""diffusers' schedulers, recognised by their numbers or refused."""

import contextlib

import diffusers
import numpy as np
import pytest
import torch

from etsdm import targets
from etsdm.errors import PartError
from etsdm.interop.diffusers_schedules import read_scheduler
from etsdm.schedules import EDM, Cosine, Flow, Linear, Quadratic, ZeroTerminal
from etsdm.targets import X0, Eps, V

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
BETAS = {"beta_start": 1e-4, "beta_end": 0.02}  # not every scheduler's own
SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
# With alphas_cumprod and the three beta schedules.
DISCRETE = [
    f"{name}Scheduler"
    for name in (
        *("DDIM", "DDIMInverse", "DDIMParallel", "DDPM", "DDPMParallel", "DEISMultistep", "DPMSolverMultistep", "DPMSolverSinglestep"),
        *("DPMSolverMultistepInverse", "EulerAncestralDiscrete", "EulerDiscrete", "HeunDiscrete", "KDPM2AncestralDiscrete"),
        *("KDPM2Discrete", "LCM", "LMSDiscrete", "PNDM", "SASolver", "TCD", "UniPCMultistep"),
    )
]
COSINE = {"EulerAncestralDiscreteScheduler", "KDPM2AncestralDiscreteScheduler"}


def make(name, **config):
    return getattr(diffusers, name)(**config)


@pytest.mark.parametrize("name", DISCRETE)
def test_beta_schedules_of_every_scheduler(name):
    assert read_scheduler(make(name, **BETAS, beta_schedule="linear"))[:2] == (Linear(), Eps())
    assert read_scheduler(make(name, **SD)).schedule == Quadratic(beta_start=0.00085, beta_end=0.012)
    try:
        cosine = make(name, beta_schedule="squaredcos_cap_v2")
    except NotImplementedError:
        assert name in COSINE
        return
    assert read_scheduler(cosine).schedule == Cosine()


@pytest.mark.parametrize("name", DISCRETE)
@pytest.mark.parametrize(("kind", "target"), [("epsilon", Eps()), ("v_prediction", V()), ("sample", X0())])
def test_prediction_types(name, kind, target):
    assert read_scheduler(make(name, prediction_type=kind, num_train_timesteps=20)).target == target


@pytest.mark.parametrize("count", [1, 10, 100, 1000, 4000])
@pytest.mark.parametrize("betas", [{}, {"beta_start": 1e-5, "beta_end": 0.05}, {"beta_start": 0.00085, "beta_end": 0.0123}])
def test_any_number_of_timesteps_and_any_betas(count, betas):
    found = read_scheduler(make("DDPMScheduler", num_train_timesteps=count, **betas)).schedule
    assert found == Linear(timesteps=count, **betas)


def rescaled(alpha_bar):
    """Algorithm 1 of Lin et al. 2024 in float64."""
    root = alpha_bar.sqrt()
    return ((root - root[-1]) * root[0] / (root[0] - root[-1])).square()


@pytest.mark.parametrize("name", [name for name in DISCRETE if "rescale_betas_zero_snr" in make(name).config])
@pytest.mark.parametrize("betas", [{**BETAS, "beta_schedule": "linear"}, SD])
def test_zero_terminal_snr(name, betas):
    cosine = make(name, beta_schedule="squaredcos_cap_v2", rescale_betas_zero_snr=True, prediction_type="v_prediction")
    assert read_scheduler(cosine).schedule == ZeroTerminal(base=Cosine())
    found = read_scheduler(make(name, **betas, rescale_betas_zero_snr=True, prediction_type="v_prediction"))
    assert isinstance(found.schedule, ZeroTerminal)
    base = found.schedule.base
    assert (base.beta_start, base.beta_end) == (betas["beta_start"], betas["beta_end"])
    t = torch.arange(1000.0)
    torch.testing.assert_close(found.schedule.alpha_bar(t), rescaled(base.alpha_bar(t)))


@pytest.mark.parametrize(
    "config",
    [
        {"timestep_spacing": "trailing", "steps_offset": 1},
        {"timestep_spacing": "linspace", "set_alpha_to_one": False, "clip_sample": False},
        {"thresholding": True, "clip_sample_range": 2.0, "sample_max_value": 2.0},
    ],
)
def test_conventions_of_sampling_are_no_part_of_the_schedule(config):
    assert read_scheduler(make("DDIMScheduler", **config))[:2] == (Linear(), Eps())


@pytest.mark.parametrize("sigmas", ["use_karras_sigmas", "use_exponential_sigmas", "use_lu_lambdas"])
def test_noise_levels_of_sampling_are_no_part_of_the_schedule(sigmas):
    assert read_scheduler(make("DPMSolverMultistepScheduler", **{sigmas: True}, **BETAS))[:2] == (Linear(), Eps())


@pytest.mark.parametrize("schedule", [Linear(), Quadratic(), Cosine(), Linear(timesteps=250, beta_start=4e-4, beta_end=0.08)])
def test_trained_betas_of_a_known_schedule_are_recognised(schedule):
    assert read_scheduler(make("DDPMScheduler", trained_betas=schedule.betas.numpy())).schedule == schedule


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"trained_betas": np.linspace(1e-4, 0.02, 1000) * (1 + 0.1 * np.sin(np.arange(1000)))}, "trained_betas"),
        ({"beta_schedule": "sigmoid"}, "beta_schedule 'sigmoid'"),
        ({"beta_schedule": "laplace"}, "beta_schedule 'laplace'"),
    ],
)
def test_unknown_betas_are_refused(config, kind):
    with pytest.raises(PartError, match=rf"^schedule: the alphas_cumprod of DDPMScheduler, {kind}, .*; give schedule= and target="):
        read_scheduler(make("DDPMScheduler", **config))


def test_a_schedule_close_to_a_known_one_is_not_taken_for_it():
    betas = Linear().betas.numpy().copy()
    betas[:5] *= 1.05
    with pytest.raises(PartError, match="alphas_cumprod of DDPMScheduler"):
        read_scheduler(make("DDPMScheduler", trained_betas=betas))
    near = read_scheduler(make("DDPMScheduler", beta_end=0.0201)).schedule
    assert near == Linear(beta_end=0.0201)


def test_alphas_that_are_not_finite_are_refused():
    scheduler = make("DDPMScheduler")
    scheduler.alphas_cumprod[3] = float("nan")
    with pytest.raises(PartError, match="alphas_cumprod of DDPMScheduler"):
        read_scheduler(scheduler)


VISITED = {"use_dynamic_shifting": True, "shift_terminal": 0.02, "use_karras_sigmas": True, "stochastic_sampling": True}


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("FlowMatchEulerDiscreteScheduler", {}),
        ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}),
        ("FlowMatchEulerDiscreteScheduler", VISITED),
        ("FlowMatchHeunDiscreteScheduler", {"shift": 3.0}),
    ],
)
def test_flow_matching_whatever_levels_are_visited(name, config):
    scheduler = make(name, **config)
    found = read_scheduler(scheduler)
    assert found[:2] == (Flow(), targets.Flow())
    # The network's timestep at a noise level is the scheduler's.
    torch.testing.assert_close(found.time_input(scheduler.sigmas[: len(scheduler.timesteps)]), scheduler.timesteps)


@pytest.mark.parametrize("name", ["DPMSolverMultistepScheduler", "UniPCMultistepScheduler", "DEISMultistepScheduler"])
def test_flow_sigmas_of_other_schedulers(name):
    flow = {"use_flow_sigmas": True, "flow_shift": 3.0}
    assert read_scheduler(make(name, prediction_type="flow_prediction", **flow)).schedule == Flow()
    with pytest.raises(PartError, match=r"^target: .*flow sigmas and prediction_type 'epsilon'"):
        read_scheduler(make(name, **flow))


@pytest.mark.parametrize("name", ["EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"])
def test_edm(name):
    found = read_scheduler(make(name, sigma_max=20.0, sigma_data=0.6))
    assert found[:2] == (EDM(sigma_max=20.0), targets.EDM(sigma_data=0.6))
    assert found.time_input(torch.tensor(1.0)) == 0
    with pytest.raises(PartError, match=r"^target: .*prediction_type 'sample', none of epsilon, v_prediction; give "):
        read_scheduler(make(name, prediction_type="sample"))


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", ["EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"])
def test_the_form_of_edm_is_that_of_its_scheduler(name, kind):
    # Their x0 from an output, and ours, at the same noise level.
    scheduler = make(name, sigma_data=0.6, prediction_type=kind)
    schedule, target, _ = read_scheduler(scheduler)
    x, output, sigma = torch.randn(3, generator=torch.Generator().manual_seed(0)), torch.tensor([1.0, -2.0, 0.5]), 3.0
    ours = target.coefficients(*schedule.alpha_sigma(sigma))
    theirs = scheduler.precondition_outputs(x, output, sigma)
    torch.testing.assert_close((ours.c_skip * x + ours.c_out * output).float(), theirs)
    torch.testing.assert_close((ours.c_in * x).float(), scheduler.precondition_inputs(x, sigma))


REFUSED = {
    "CMStochasticIterativeScheduler": {},
    "FlowMatchLCMScheduler": {},
    "IPNDMScheduler": {},
    "ScoreSdeVeScheduler": {},
    "VQDiffusionScheduler": {"num_vec_classes": 8},
    "DDPMWuerstchenScheduler": {},
    "SCMScheduler": {},
}


@pytest.mark.parametrize("name", REFUSED)
def test_schedulers_without_known_numbers_are_refused(name):
    with pytest.raises(PartError, match=rf"^schedule: .*{name}.*; give schedule= and target="):
        read_scheduler(make(name, **REFUSED[name]))


@pytest.mark.parametrize(
    ("name", "config", "field"),
    [
        (
            "EulerDiscreteScheduler",
            {"timestep_type": "continuous", "prediction_type": "v_prediction"},
            "schedule: .*timestep_type 'continuous'",
        ),
        ("FlowMatchEulerDiscreteScheduler", {"invert_sigmas": True}, "schedule: .*invert_sigmas"),
        ("DDPMScheduler", {"variance_type": "learned"}, "variance_type: .*'learned_range'"),
        ("DPMSolverMultistepScheduler", {"prediction_type": "flow_prediction"}, "target: .*prediction_type 'flow_prediction'"),
    ],
)
def test_conventions_that_change_the_network_are_refused(name, config, field):
    with pytest.raises(PartError, match=f"^{field}"):
        read_scheduler(make(name, **config))


def test_no_scheduler_of_diffusers_makes_another_error():
    # Each is read or refused in one sentence; those that need arguments cannot be made here.
    messages = []
    for name in (name for name in dir(diffusers) if name.endswith("Scheduler")):
        with contextlib.suppress(Exception):
            scheduler = make(name)
            messages.append(message_of(scheduler))
    assert len(messages) > 30
    assert all(message is None or "give schedule=" in message for message in messages)


def message_of(scheduler):
    try:
        read_scheduler(scheduler)
    except PartError as error:
        return str(error)
    except Exception as error:
        return f"{type(scheduler).__name__}: {error!r}"
    return None
