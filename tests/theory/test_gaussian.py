"""Samplers and the estimator on data N(0, c^2), without randomness."""

import math

import pytest
import torch
from scipy import stats

from etsdm.condition_maps import ETSDM
from etsdm.samplers import DDIM
from etsdm.schedules import Cosine, Linear, Quadratic
from etsdm.targets import V
from etsdm.theory import ExactDenoiser, GaussianMixture, ddim_response, ddim_spread, ddpm_spread, gaussian_lipschitz, mixture
from etsdm.theory.gaussian import mean_norm

LINEAR = Linear()


# The values of this and the next three tests: an independent recursion in float64.
@pytest.mark.parametrize(
    ("c", "baseline", "shared"), [(1, 0.9999, 0.9997), (0.5, 1.0015, 1.0), (0.1, 1.0077, 0.9787), (0.02, 0.9714, 1.1365)]
)
def test_ddpm_spreads_the_samples_so_much(c, baseline, shared):
    # Regression values of a finding: with the exact optimum sharing does not always come closer to 1, nor always further from it.
    assert ddpm_spread(LINEAR, c) == pytest.approx(baseline, abs=6e-5)
    assert ddpm_spread(LINEAR, c, ETSDM()) == pytest.approx(shared, abs=6e-5)


@pytest.mark.parametrize(("n", "expected"), [(1, 2.3964), (50, 0.9633)])
def test_the_spread_depends_on_the_number_of_conditions(n, expected):
    assert ddpm_spread(LINEAR, 0.02, ETSDM(n=n)) == pytest.approx(expected, abs=6e-5)


@pytest.mark.parametrize(("condition_map", "expected"), [(None, 0.9449), (ETSDM(), 0.9224)])
def test_ddim_in_fifty_steps_spreads_the_samples_so_much(condition_map, expected):
    assert ddim_spread(LINEAR, 0.5, condition_map) == pytest.approx(expected, abs=6e-5)


@pytest.mark.parametrize(("c", "baseline", "shared"), [(1, 0.9994, 0.9991), (0.5, 0.8705, 0.8694), (0.1, 0.2915, 0.2847)])
def test_a_perturbation_at_timestep_100_arrives_so_much_smaller(c, baseline, shared):
    assert ddim_response(LINEAR, c) == pytest.approx(baseline, abs=6e-5)
    assert ddim_response(LINEAR, c, ETSDM()) == pytest.approx(shared, abs=6e-5)


@pytest.mark.parametrize("condition_map", [None, ETSDM()])
@pytest.mark.parametrize("steps", [1, 50, 1000])
def test_ddim_itself_on_the_exact_denoiser_spreads_them_as_much(condition_map, steps):
    # A sampler that is linear and deterministic multiplies the starting noise by its output for 1. Another target, the same spread.
    data = GaussianMixture([[0.0]], [0.5], [1.0])
    denoiser = ExactDenoiser(data, LINEAR, condition_map=condition_map)
    sampler = DDIM(steps=steps, clip_x0=False, grid="leading")
    *_, last = sampler.trajectory(denoiser, torch.ones(1, 1, dtype=torch.float64))
    assert abs(last.x.item()) / 0.5 == pytest.approx(ddim_spread(LINEAR, 0.5, condition_map, steps=steps), rel=1e-10)


def test_without_sharing_the_target_does_not_matter_to_a_sampler():
    data = GaussianMixture([[0.0]], [0.5], [1.0])
    *_, last = DDIM(steps=50, clip_x0=False).trajectory(ExactDenoiser(data, LINEAR, target=V()), torch.ones(1, 1, dtype=torch.float64))
    assert last.x.item() / 0.5 == pytest.approx(ddim_spread(LINEAR, 0.5), rel=1e-10)


# T times the increment of sigma at some timesteps, T = 1000, by an independent computation in float64.
STEPS = [0, 1, 5, 10, 50, 99, 200, 500]
INCREMENTS = {
    Linear(): [4.829, 4.137, 3.459, 3.284, 3.094, 2.911, 2.293, 0.408],
    Quadratic(): [4.235, 3.313, 2.203, 1.804, 1.435, 1.541, 1.751, 1.166],
    Cosine(): [2.925, 2.415, 1.869, 1.708, 1.566, 1.540, 1.477, 1.093],
}


@pytest.mark.parametrize("schedule", INCREMENTS, ids=lambda schedule: schedule.type_name)
@pytest.mark.parametrize("d", [1, 2, 64])
def test_on_normal_data_k_is_the_increment_of_sigma_times_the_mean_norm(schedule, d):
    found = 1000 * gaussian_lipschitz(schedule, d=d)[STEPS] / stats.chi(d).mean()
    assert found.tolist() == pytest.approx(INCREMENTS[schedule], abs=6e-4)


def test_sharing_puts_all_of_k_on_the_edges():
    found = 1000 * gaussian_lipschitz(LINEAR, condition_map=ETSDM()) / math.sqrt(2 / math.pi)
    edges = [19, 39, 59, 79, 99]
    assert found[:100].nonzero().flatten().tolist() == edges
    # Regression values of a finding: the jump of the shared sigma is many times the increment that it stands for.
    assert found[edges].tolist() == pytest.approx([64.65, 62.52, 61.32, 59.90, 30.86], abs=6e-3)
    baseline = 1000 * gaussian_lipschitz(LINEAR) / math.sqrt(2 / math.pi)
    assert found[:100].mean().item() == pytest.approx(2.79, abs=6e-3)
    assert baseline[:100].mean().item() == pytest.approx(3.14, abs=6e-3)
    assert torch.equal(found[100:], baseline[100:])


def test_k_of_wider_data_is_the_mean_over_their_noisy_density():
    # E|x| = sqrt(2/pi) std(x) of a normal x, and the exact denoiser's answers at 1.
    c, t, one = 3.0, torch.tensor([30.0, 31.0], dtype=torch.float64), torch.ones(2, 1, dtype=torch.float64)
    slopes = ExactDenoiser(GaussianMixture([[0.0]], [c], [1.0]), LINEAR).output(one, t).flatten()
    alpha, sigma = (level.item() for level in LINEAR.alpha_sigma(30.0))
    expected = abs(slopes[1] - slopes[0]).item() * math.sqrt(2 / math.pi) * math.hypot(alpha * c, sigma)
    assert gaussian_lipschitz(LINEAR, c=c)[30].item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("d", [1, 2, 3, 100, 196_608])
def test_the_mean_norm_of_a_normal_vector(d):
    # scipy's chi distribution loses digits where d is large; there sqrt(d - 1/2) is close.
    expected = stats.chi(d).mean() if d <= 100 else math.sqrt(d - 0.5)
    assert mean_norm(d) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("steps", [0, 1001])
def test_a_number_of_steps_that_does_not_fit_is_refused(steps):
    with pytest.raises(ValueError, match=f"steps: {steps} steps do not fit a schedule of 1000 timesteps; give 1 to 1000"):
        ddim_spread(LINEAR, 0.5, steps=steps)


def test_normal_data_are_the_named_mixture():
    x = torch.tensor([[0.7]], dtype=torch.float64)
    assert ExactDenoiser(mixture("normal"), LINEAR).output(x, 50.0).item() == pytest.approx(0.7 * LINEAR.sigma(50.0).item(), rel=1e-14)
