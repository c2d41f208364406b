"""The exact denoiser: it answers like a trained one, and its answers are what training would converge to."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from etsdm.condition_maps import ETSDM, Constant, Identity, LogSNR
from etsdm.denoisers.protocol import DenoiserLike
from etsdm.randomness import generator
from etsdm.registry import targets
from etsdm.schedules import EDM, Cosine, Linear, LinearContinuous
from etsdm.targets import X0, Eps, Flow, Score, V
from etsdm.theory import ExactDenoiser, GaussianMixture, mixture, optimum, shared_optimum

LINEAR = Linear()
PRECONDITIONED = targets.create("edm", sigma_data=0.5)
M1, M2 = mixture("m1"), mixture("m2")


def exact(data=M1, schedule=LINEAR, **parts):
    return ExactDenoiser(data, schedule, **parts)


def random_images(*shape, name="test/images"):
    return torch.randn(*shape, dtype=torch.float64, generator=generator(0, name))


def m1_density(x, alpha, sigma):
    """q(x) with the numbers of the mixture written out."""
    parts = ((-1.5, 0.3, 0.3), (0.2, 0.5, 0.5), (1.4, 0.4, 0.2))
    return sum(w * stats.norm.pdf(x, alpha * mu, math.hypot(alpha * s, sigma)) for mu, s, w in parts)


# --- the protocol


def test_it_is_a_predictor_with_the_facts_of_a_denoiser():
    denoiser = exact(M2)
    assert isinstance(denoiser, DenoiserLike)
    assert denoiser.shape == (2,)
    assert denoiser.device == torch.device("cpu")
    assert denoiser.num_classes is None


@pytest.mark.parametrize("target", [Eps(), V(), X0(), Score(), Flow(), PRECONDITIONED], ids=lambda target: target.type_name)
def test_what_it_predicts_is_the_optimum_in_every_space(target):
    x, t = random_images(5, 2), torch.tensor([0.0, 3.0, 99.5, 500.0, 998.0])
    prediction = exact(M2, target=target).predict(x, t)
    best = optimum(M2, LINEAR, x, t)
    for found, expected in ((prediction.x0, best.x0), (prediction.eps, best.eps), (prediction.v, best.v)):
        assert torch.allclose(found, expected, rtol=1e-9, atol=1e-10)
    assert torch.allclose(prediction.score, best.score, rtol=1e-9, atol=1e-9)


def test_its_output_is_what_the_target_says_of_x0_and_eps():
    x = random_images(5, 2)
    best = optimum(M2, LINEAR, x, 300.0)
    assert torch.allclose(exact(M2, target=V()).output(x, 300.0), best.v, rtol=1e-13)
    assert torch.allclose(exact(M2, target=X0()).output(x, 300.0), best.x0, rtol=1e-13)


def test_images_keep_their_shape_and_dtype():
    data = GaussianMixture(random_images(4, 12), [0.3] * 4, [0.25] * 4)
    x, t = random_images(6, 3, 2, 2, name="test/other").float(), torch.tensor([1, 5, 10, 50, 100, 900])
    for condition_map in (Identity(), ETSDM()):
        denoiser = exact(data, condition_map=condition_map)
        output, prediction = denoiser.output(x, t), denoiser.predict(x, t)
        assert output.shape == prediction.x0.shape == prediction.score.shape == x.shape
        assert output.dtype == prediction.x0.dtype == torch.float32
        assert torch.equal(output.flatten(1), denoiser.output(x.flatten(1), t))


def test_single_precision_images_are_computed_in_double():
    x = random_images(4, 1)
    double = exact().output(x.float().double(), 30.0)
    assert torch.equal(exact().output(x.float(), 30.0), double.float())


@given(st.lists(st.integers(0, 999), min_size=1, max_size=6), st.sampled_from(["uniform", "posterior"]))
def test_a_batch_of_times_is_answered_like_each_alone(times, weights):
    denoiser = exact(M2, condition_map=ETSDM(t_tilde=100, n=3), weights=weights)
    x, t = random_images(len(times), 2), torch.tensor(times, dtype=torch.float64)
    together = denoiser.output(x, t)
    is_unshared = torch.cat([denoiser.output(x[k : k + 1], t[k]) for k in range(len(times))])
    assert torch.allclose(together, is_unshared, rtol=1e-13, atol=1e-15)


def test_large_batches_are_answered_in_parts_and_alike():
    # 64 times for each of 30,000 images of three components: more than one part.
    schedule = LinearContinuous()
    denoiser = exact(M1, schedule, condition_map=ETSDM(t_tilde=0.1, n=5))
    x = random_images(30_000, 1)
    t = torch.full((30_000,), 0.03, dtype=torch.float64)
    output = denoiser.output(x, t)
    assert torch.equal(output, denoiser.output(x, 0.03))
    assert torch.allclose(output[[0, -1]], denoiser.output(x[[0, -1]], 0.03), rtol=1e-14)


def test_numbers_and_tensors_of_either_precision_are_the_same_time():
    denoiser, x = exact(schedule=LinearContinuous(), condition_map=ETSDM(t_tilde=0.1, n=5)), random_images(3, 1)
    # In single precision .02 is below the edge .02; it is meant to be the edge all the same.
    for t in (0.02, torch.tensor(0.02), torch.tensor(0.02, dtype=torch.float64), torch.full((3,), 0.02)):
        assert torch.allclose(denoiser.output(x, t), denoiser.output(x, 0.03), rtol=1e-14)


def test_further_conditions_are_refused():
    with pytest.raises(ValueError, match="y: an exact denoiser takes no further condition; leave it out"):
        exact().output(random_images(1, 1), 3.0, y=torch.zeros(1))


def test_rows_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"x: found shape \(3, 3\); give 2 elements on the last axis"):
        exact(M2).output(random_images(3, 3), 3.0)


def test_a_map_beyond_the_schedule_is_refused():
    with pytest.raises(ValueError, match=r"condition_map\.t_tilde: 100 is beyond the schedule's horizon; give 1 or less"):
        exact(schedule=LinearContinuous(), condition_map=ETSDM())


def test_unknown_weights_are_refused():
    with pytest.raises(ValueError, match="weights: 'loss' is not known; give uniform or posterior"):
        exact(weights="loss")


# --- which times share a condition


def test_the_timesteps_of_a_sub_interval_get_one_answer():
    denoiser, x = exact(M2, condition_map=ETSDM()), random_images(4, 2)
    first = denoiser.output(x, 20.0)
    assert all(torch.equal(denoiser.output(x, float(t)), first) for t in range(20, 40))
    assert not torch.equal(denoiser.output(x, 19.0), first)
    assert not torch.equal(denoiser.output(x, 40.0), first)


def test_between_timesteps_the_answer_is_that_of_the_condition():
    # Training never drew 19.5; a network that is told the condition 0 there gives what it learnt for timesteps 0 to 19.
    x = random_images(4, 2)
    shared = exact(M2, condition_map=ETSDM())
    assert torch.equal(shared.output(x, 19.5), shared.output(x, 0.0))
    assert torch.equal(exact(M2, condition_map=ETSDM(n=100)).output(x, 19.5), exact(M2).output(x, 19.0))


def test_a_time_whose_condition_no_timestep_has_is_on_its_own():
    x = random_images(4, 2)
    assert torch.allclose(exact(M2, condition_map=ETSDM()).output(x, 150.25), optimum(M2, LINEAR, x, 150.25).eps, rtol=1e-13)


def test_above_the_shared_times_nothing_changes():
    x, t = random_images(3, 2), torch.tensor([100.0, 101.0, 999.0])
    assert torch.equal(exact(M2, condition_map=ETSDM()).output(x, t), exact(M2).output(x, t))


def test_times_of_a_continuous_schedule_share_by_intervals():
    schedule, x = LinearContinuous(), random_images(4, 2)
    for weights in ("uniform", "posterior"):
        denoiser = exact(M2, schedule, condition_map=ETSDM(t_tilde=0.1, n=5), weights=weights)
        assert torch.allclose(denoiser.output(x, 0.05), shared_optimum(M2, schedule, x, 0.04, 0.06, weights=weights), rtol=1e-13)
        assert torch.allclose(denoiser.output(x, 0.5), optimum(M2, schedule, x, 0.5).eps, rtol=1e-13)


def test_where_levels_are_shared_too_the_answer_is_that_of_the_one_level():
    # Training noises every image of a sub-interval at its left edge, so there is nothing to average.
    x = random_images(4, 2)
    denoiser = exact(M2, condition_map=ETSDM(share="both"))
    assert denoiser.noising_time(torch.tensor(30.0)) == 20
    assert torch.allclose(denoiser.output(x, 30.0), exact(M2).output(x, 20.0), rtol=1e-13)


def test_without_any_time_all_timesteps_are_averaged():
    schedule, x = Linear(timesteps=10), random_images(4, 2)
    is_unshared = torch.stack([optimum(M2, schedule, x, float(u)).eps for u in range(10)])
    assert torch.allclose(exact(M2, schedule, condition_map=Constant()).output(x, 3.0), is_unshared.mean(0), rtol=1e-12)


def test_a_remap_renames_the_times_and_changes_nothing():
    x, t = random_images(4, 2), torch.tensor([0.0, 1.0, 500.0, 999.0])
    assert torch.equal(exact(M2, condition_map=LogSNR()).output(x, t), exact(M2).output(x, t))


# --- telling another time


def test_told_another_time_it_answers_for_that_time():
    x = random_images(4, 2)
    assert torch.equal(exact(M2).output(x, 30.0, condition_t=torch.tensor(31.0)), exact(M2).output(x, 31.0))
    t = torch.tensor([5.0, 30.0, 300.0, 900.0])
    assert torch.equal(exact(M2).output(x, t, condition_t=t + 1), exact(M2).output(x, t + 1))


def test_told_another_time_the_input_stays():
    # EDM's network sees x / r; who believes another r takes that for an image of another size.
    target = PRECONDITIONED
    schedule, x = EDM(), random_images(4, 1)
    found = exact(M1, schedule, target=target).output(x, 0.3, condition_t=torch.tensor(0.6, dtype=torch.float64))
    believed = x / math.hypot(0.3, 0.5) * math.hypot(0.6, 0.5)
    assert torch.allclose(found, exact(M1, schedule, target=target).output(believed, 0.6), rtol=1e-13)


def test_told_a_time_of_its_own_sub_interval_it_answers_the_same():
    denoiser, x = exact(M2, condition_map=ETSDM()), random_images(4, 2)
    assert torch.equal(denoiser.output(x, 30.0, condition_t=torch.tensor(31.0)), denoiser.output(x, 30.0))


# --- values


def test_the_target_of_edm_is_linear_in_sigma_near_zero():
    # In closed form: F / sigma goes to s(x, 0) + x / sd^2 = -1.0354265 + .7 / .25.
    x, sigma = torch.tensor([[0.7]], dtype=torch.float64), 1e-6
    output = exact(M1, EDM(), target=PRECONDITIONED).output(x, sigma)
    assert output.item() / sigma == pytest.approx(1.764573, abs=1e-5)


@pytest.mark.parametrize(("x", "t"), [(0.7, 300.0), (-1.0, 700.0), (0.0, 999.0)])
def test_it_predicts_the_mean_noise_of_what_looks_like_x(x, t):
    # Samples of the data, weighted by how likely each is to have been noised to x.
    x0 = np.random.default_rng(0)
    component = x0.choice(3, size=200_000, p=[0.3, 0.5, 0.2])
    x0 = np.array([-1.5, 0.2, 1.4])[component] + np.array([0.3, 0.5, 0.4])[component] * x0.normal(size=len(component))
    alpha, sigma = (level.item() for level in LINEAR.alpha_sigma(t))
    eps = (x - alpha * x0) / sigma
    weight = stats.norm.pdf(eps)
    expected = np.average(eps, weights=weight)
    error = np.sqrt(np.sum((weight * (eps - expected)) ** 2)) / weight.sum()
    assert exact().output(torch.tensor([[x]], dtype=torch.float64), t).item() == pytest.approx(expected, abs=4 * error)


# T K(i, i+1) on M1, linear, T = 1000, by an independent estimate with 20,000 samples: right to 2 %. Here the means are integrals.
GRID = np.linspace(-6, 6, 2401)


def outputs(denoiser, t, condition_t=None):
    x = torch.from_numpy(GRID)[:, None]
    return denoiser.output(x, t, condition_t=None if condition_t is None else torch.tensor(condition_t)).flatten().numpy()


def mean_over_noisy_data(values, t):
    alpha, sigma = (level.item() for level in LINEAR.alpha_sigma(t))
    return np.trapezoid(values * m1_density(GRID, alpha, sigma), GRID)


def k_shared_x(denoiser, i):
    """E |F(x_t, t) - F(x_t, t + 1)|: the same x, told another time."""
    return 1000 * mean_over_noisy_data(np.abs(outputs(denoiser, i) - outputs(denoiser, i, condition_t=i + 1)), i)


@pytest.mark.parametrize(
    ("i", "expected"),
    [(0, 6.93), (1, 5.94), (5, 4.90), (10, 4.53), (20, 4.08), (50, 2.70), (99, 2.36), (200, 2.41), (500, 0.51), (900, 0.01)],
)
def test_k_of_the_best_eps(i, expected):
    assert k_shared_x(exact(), float(i)) == pytest.approx(expected, rel=0.02, abs=0.005)


@pytest.mark.parametrize(("i", "expected"), [(19, 82.7), (39, 63.7), (59, 47.8), (79, 44.6), (99, 24.1)])
def test_k_of_the_best_eps_under_shared_conditions_at_the_edges(i, expected):
    # Regression values of a finding: at an edge the jump is many times what the baseline changes there.
    assert k_shared_x(exact(condition_map=ETSDM()), float(i)) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("weights", ["uniform", "posterior"])
@pytest.mark.parametrize("schedule", [Linear(), Cosine()], ids=["linear", "cosine"])
def test_k_under_shared_conditions_is_exactly_zero_off_the_edges(schedule, weights):
    denoiser, x = exact(M1, schedule, condition_map=ETSDM(), weights=weights), random_images(8, 1)
    changes = [
        (denoiser.output(x, float(i)) - denoiser.output(x, float(i), condition_t=torch.tensor(i + 1.0))).abs().max() for i in range(100)
    ]
    assert [i for i, change in enumerate(changes) if change != 0] == [19, 39, 59, 79, 99]


@pytest.mark.parametrize(("i", "expected"), [(0, 6.97), (50, 3.54)])
def test_k_with_shared_data_and_noise(i, expected):
    # E |F(x_t, t) - F(x_t', t')| over x0 of each component and eps, by Gauss and Hermite's quadrature.
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = weights / weights.sum()
    eps = torch.from_numpy(nodes)
    total = 0.0
    for mean, std, w in ((-1.5, 0.3, 0.3), (0.2, 0.5, 0.5), (1.4, 0.4, 0.2)):
        x0 = mean + std * eps
        at = []
        for t in (float(i), i + 1.0):
            alpha, sigma = LINEAR.alpha_sigma(t)
            x = alpha * x0[:, None] + sigma * eps
            at.append(exact().output(x.reshape(-1, 1), t).reshape(x.shape).numpy())
        total += w * weights @ np.abs(at[0] - at[1]) @ weights
    assert 1000 * total == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(("i", "expected"), [(0, 6.95), (50, 2.57)])
def test_k_of_the_mean_norm_at_the_same_x(i, expected):
    change = np.abs(outputs(exact(), float(i), condition_t=i + 1.0)) - np.abs(outputs(exact(), float(i)))
    assert 1000 * abs(mean_over_noisy_data(change, float(i))) == pytest.approx(expected, rel=0.02)


# --- derivatives


def test_a_denoiser_first_asked_for_a_derivative_can_be_copied_and_asked_again():
    # Tensors made while torch.func.jvp runs are wrappers that do not outlive it.
    for schedule, t_tilde, t in ((Linear(), 100, [5.0, 30.0, 400.0]), (LinearContinuous(), 0.1, [0.005, 0.03, 0.4])):
        data = GaussianMixture([[-1.0], [1.0]], [0.3, 0.4], [0.5, 0.5])
        x, t = random_images(3, 1), torch.tensor(t, dtype=torch.float64)
        first, other = (ExactDenoiser(data, schedule, condition_map=ETSDM(t_tilde=t_tilde)) for _ in range(2))
        expected = other.output(x, t)
        torch.func.jvp(lambda t, x=x, first=first: first.output(x, t), (t,), (torch.ones_like(t),))
        assert torch.equal(copy.deepcopy(first).output(x, t), expected)


def test_it_is_differentiable_in_x():
    for condition_map in (Identity(), ETSDM()):
        denoiser, t = exact(M2, condition_map=condition_map), torch.tensor([7.0, 30.0, 400.0])
        assert torch.autograd.gradcheck(lambda x, denoiser=denoiser, t=t: denoiser.output(x, t), random_images(3, 2).requires_grad_())


@pytest.mark.parametrize("schedule", [Linear(), LinearContinuous()], ids=["discrete", "continuous"])
def test_it_is_differentiable_in_time_where_the_map_is_injective(schedule):
    denoiser, x = exact(M2, schedule), random_images(3, 2)
    t = torch.tensor([0.1, 0.25, 0.7], dtype=torch.float64) * (999 if schedule.is_discrete else 1)
    step = 1e-5 * schedule.horizon
    _, rate = torch.func.jvp(lambda t: denoiser.output(x, t), (t,), (torch.ones_like(t),))
    expected = (denoiser.output(x, t + step) - denoiser.output(x, t - step)) / (2 * step)
    assert torch.allclose(rate, expected, rtol=1e-6, atol=1e-12)
    _, told = torch.func.jvp(lambda told: denoiser.output(x, t, condition_t=told), (t,), (torch.ones_like(t),))
    assert torch.allclose(told, rate, rtol=1e-12)
    t.requires_grad_(True)
    (gradient,) = torch.autograd.grad(denoiser.output(x, t).sum(), t)
    assert torch.allclose(gradient, rate.sum(1), rtol=1e-12)


def test_shared_times_have_no_rate():
    denoiser, x = exact(M2, condition_map=ETSDM()), random_images(3, 2)
    t = torch.tensor([5.0, 30.0, 400.0], dtype=torch.float64)
    _, rate = torch.func.jvp(lambda t: denoiser.output(x, t), (t,), (torch.ones_like(t),))
    assert not rate[:2].any()
    assert rate[2].all()
