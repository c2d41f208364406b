"""Measurements of a diagnosis against closed forms, on exact denoisers and on networks whose use of t is known."""

import math

import pytest
import torch
from torch import nn

from etsdm.analysis.diagnosis import (
    SharedConditions,
    advise,
    is_singular,
    loss_curve,
    measure,
    proposed_map,
    rows_per_image,
    share_of_updates,
    time_awareness,
    verdict_of,
)
from etsdm.condition_maps import ETSDM, Compose
from etsdm.denoisers.denoiser import Denoiser
from etsdm.errors import PartError
from etsdm.losses import LogNormal, Uniform
from etsdm.randomness import generator
from etsdm.registry import schedules, targets
from etsdm.schedules import Linear
from etsdm.theory import ExactDenoiser, GaussianMixture, ddim_response, gaussian_lipschitz, mixture
from etsdm.theory.gaussian import mean_norm

C, D = 0.5, 16  # standard deviation and dimension of Gaussian data, for which the ideal eps is g_t x
SCHEDULE = Linear()
NORMAL = GaussianMixture(torch.zeros(1, D), [C], [1.0])


@pytest.fixture(scope="module")
def images():
    return NORMAL.sample(400, generator(0, "test/images"))


def gain(t):
    """g_t = sigma / (alpha^2 c^2 + sigma^2), and the standard deviation of an element of x_t."""
    alpha, sigma = SCHEDULE.alpha_sigma(torch.as_tensor(t, dtype=torch.float64))
    variance = alpha.square() * C**2 + sigma.square()
    return sigma / variance, variance.sqrt()


@pytest.fixture(scope="module")
def measured(images):
    """Of the exact denoiser of Gaussian data, linear schedule, noise prediction."""
    return measure(ExactDenoiser(NORMAL, SCHEDULE), images, batch_size=200)


def test_time_awareness_of_gaussian_data_has_its_closed_form(images, measured):
    # F = g_t x, so ||F(x_t, t) - F(x_t, t')|| = |g_t - g_t'| ||x_t||.
    t, other = measured.awareness.t, measured.awareness.other
    assert sorted(zip(t.tolist(), other.tolist(), strict=True))[:4] == [(0, 500), (0, 749), (0, 999), (250, 749)]
    (g, spread), (g_other, _) = gain(t), gain(other)
    size = spread * mean_norm(D)
    assert torch.allclose(measured.awareness.change, (g - g_other).abs() * size, rtol=0.03)
    assert torch.allclose(measured.awareness.norm, g * size, rtol=0.03)
    expected = ((g - g_other).abs() * size).sum() / (g * size).sum()
    assert measured.awareness.value == pytest.approx(expected.item(), rel=0.02)


def test_k_of_gaussian_data_has_its_closed_form_at_every_time(measured):
    expected = gaussian_lipschitz(SCHEDULE, c=C, d=D)[measured.lipschitz.t.long()]
    assert (measured.lipschitz.mean - expected).abs().le(5 * measured.lipschitz.se + 1e-12).all()
    assert measured.lipschitz.t[:100].tolist() == list(range(100))  # every step of the shared range is resolved
    assert measured.lipschitz.unit == "per step"


def test_shared_conditions_of_the_same_weights_jump_at_edges_only(measured):
    # The network keeps g, and receives the left edge: |g(f(i+1)) - g(f(i))| E||x_i||, and 0 where both are equal.
    t = measured.lipschitz_shared.t
    (here, _), (there, _) = gain(ETSDM()(t)), gain(ETSDM()(t + 1))
    expected = (there - here).abs() * gain(t)[1] * mean_norm(D)
    assert (measured.lipschitz_shared.mean - expected).abs().le(5 * measured.lipschitz_shared.se + 1e-12).all()
    assert t[measured.at_edges(measured.lipschitz_shared)].tolist() == [19, 39, 59, 79, 99]
    means = measured.summary(measured.lipschitz_shared)
    assert means["inside"] == means["first"] == 0
    assert means["edges"] == pytest.approx(expected[[19, 39, 59, 79, 99]].mean().item(), rel=0.05)
    assert measured.summary(measured.coupled_shared)["inside"] > 0  # x changes too


def test_loss_of_gaussian_data_has_its_closed_form_with_and_without_shared_conditions(measured):
    # E|eps - g x|^2 = 1 - 2 g sigma + g^2 (alpha^2 c^2 + sigma^2), for any g.
    t = measured.loss.t
    for curve, condition in ((measured.loss, t), (measured.loss_shared, ETSDM()(t))):
        g, spread = gain(condition)[0], gain(t)[1]
        expected = 1 - 2 * g * SCHEDULE.sigma(t) + g.square() * spread.square()
        assert (curve.mean - expected).abs().le(5 * curve.se + 1e-12).all()
    assert measured.loss_shared.over(0, 100) > measured.loss.over(0, 100)
    assert measured.loss_shared.over(100, math.inf) == measured.loss.over(100, math.inf)
    assert measured.loss.over(2000, 3000) is None


def test_stability_of_gaussian_data_has_its_closed_form(measured):
    # x0 is linear in x: one-shot by alpha c^2 / (alpha^2 c^2 + sigma^2), the chain by the product of its steps' factors.
    alpha, sigma = (float(value) for value in SCHEDULE.alpha_sigma(100.0))
    responses = {"chain": ddim_response(SCHEDULE, C, t=100), "one-shot": alpha * C**2 / (alpha**2 * C**2 + sigma**2)}
    for reading, curve in measured.stability.items():
        assert curve.rms[1:] / curve.r[1:] == pytest.approx([responses[reading]] * 2, rel=0.03)
        assert curve.t_tilde == 100


def test_the_advice_of_a_steep_model_is_to_share_conditions(measured):
    assert verdict_of(measured) == "share"
    topics = {one.topic: one for one in advise(measured)}
    assert list(topics) == ["time-awareness", "schedule", "smoothness", "shared conditions", "training", "what to do", "other ways"]
    assert "{type: e-tsdm, t_tilde: 100, n: 5}" in topics["what to do"].action
    assert "share_timesteps(model, t_tilde=100, n=5)" in topics["what to do"].action
    assert "infinite slope" in topics["schedule"].finding
    assert f"{measured.lipschitz.mean[0]:.4g}" in topics["smoothness"].finding
    assert topics["training"].finding.startswith("10 % of training times")
    assert all(one.certainty for one in topics.values())


@pytest.mark.parametrize("schedule", ["linear-continuous", "modified-linear-continuous", "cosine-continuous", "flow"])
@pytest.mark.parametrize("target", ["eps", "v", "x0", "edm", "flow", "score"])
def test_the_targets_that_are_singular_are_those_whose_optimum_is(schedule, target):
    # F(2t) - F(t) falls as sqrt(t) where dF/dt is infinite at 0, and as t where it is finite.
    schedule = schedules.make(schedule)
    denoiser = ExactDenoiser(mixture("m1"), schedule, target=target)
    x = torch.full((1, 1), 0.7, dtype=torch.float64)

    def change(t):
        first, second = (denoiser.output(x, torch.tensor(factor * t, dtype=torch.float64)) for factor in (1, 2))
        return (second - first).abs().item()

    exponent = math.log10(change(1e-6) / change(1e-8)) / 2
    assert is_singular(schedule, targets.make(target)) == (exponent < 0.75)


def test_proposed_maps_are_in_the_schedules_unit():
    assert proposed_map(Linear()) == ETSDM(t_tilde=100, n=5)
    assert proposed_map(Linear(timesteps=4000)).t_tilde == 400
    assert proposed_map(schedules.make("flow")).t_tilde == pytest.approx(0.1)
    assert proposed_map(schedules.make("edm")).sub_intervals.edges[-1] == pytest.approx(math.sqrt(math.expm1(0.1 * 0.1 + 9.95 * 0.01)))


def test_the_share_of_updates_is_that_of_the_distribution_of_times():
    assert share_of_updates(Uniform(), Linear(), 100) == 0.1
    assert share_of_updates(Uniform(), Linear(), 99.5) == 0.1  # timestep 99 is the last
    assert share_of_updates(Uniform(), Linear(timesteps=50), 60) == 1
    assert share_of_updates(Uniform(), schedules.make("flow"), 0.25) == 0.25
    normal = 0.5 * (1 + math.erf((math.log(0.3) + 1.2) / 1.2 / math.sqrt(2)))
    assert share_of_updates(LogNormal(), schedules.make("edm"), 0.3) == pytest.approx(normal, abs=0.01)


SHORT, SHARED = {"type": "linear", "timesteps": 50}, {"type": "e-tsdm", "t_tilde": 10}
CASES = {
    "x0": ({"target": "x0"}, "not-concerned"),
    "flow": ({"schedule": "flow", "target": "flow"}, "not-concerned"),
    "edm": ({"schedule": "edm", "target": "edm"}, "not-concerned"),
    "v, continuous": ({"schedule": "cosine-continuous", "target": "v"}, "share"),
    "shared": ({"condition_map": "e-tsdm"}, "shared"),
    "shared after a remap": ({"schedule": SHORT, "condition_map": {"type": "compose", "maps": ["log-snr", SHARED]}}, "shared"),
    "a remap": ({"condition_map": "sigma"}, "share"),
    "few timesteps": ({"schedule": {"type": "linear", "timesteps": 10}}, "share"),
}


@pytest.mark.parametrize("case", CASES)
def test_every_kind_of_schedule_target_and_map_is_measured(case):
    parts, verdict = CASES[case]
    denoiser = ExactDenoiser(mixture("m1"), **{"schedule": "linear", **parts})
    rows, images = [], denoiser.mixture.sample(8, generator(0, "test"))
    found = measure(denoiser, images, fine=2, coarse=3, batch_size=4, on_rows=rows.append)
    assert verdict_of(found) == verdict
    assert sum(rows) == 8 * rows_per_image(denoiser, 2, 3)
    assert found.at_edges(found.lipschitz).any()
    assert all(curve.mean.isfinite().all() for curve in (found.lipschitz, found.coupled, found.loss))
    assert found.is_shared == (verdict == "shared") == (found.lipschitz_shared is None)
    assert [one.finding for one in advise(found) if "nan" in one.finding.lower().split() or "inf" in one.finding.split()] == []
    unit = {"flow": "t in [0, 0.1)", "edm": "sigma in [0, 0.3402)"}.get(case)
    assert unit is None or unit in next(one.finding for one in advise(found) if one.topic == "training")


def test_a_model_that_shares_conditions_has_its_jumps_measured():
    denoiser = ExactDenoiser(mixture("m1"), "linear", condition_map="e-tsdm")
    found = measure(denoiser, mixture("m1").sample(200, generator(0, "test")), batch_size=200)
    means = found.summary(found.lipschitz)
    assert means["inside"] == 0
    # 1000 times the mean of K at 19, 39, ..., 99, as in the test of the command `lipschitz`.
    assert 1000 * means["edges"] == pytest.approx((83.05 + 63.99 + 47.48 + 44.44 + 24.06) / 5, rel=0.1)
    assert "nothing is to be changed" in advise(found)[-1].finding


def test_no_training_is_advised_where_there_is_no_reason():
    # On the flow schedule shared conditions alone add 17 % to the loss of the exact x0.
    denoiser = ExactDenoiser(mixture("m1"), "flow", target="x0")
    found = measure(denoiser, denoiser.mixture.sample(64, generator(0, "test")), fine=3, coarse=3)
    assert found.loss_shared.over(0, 0.1) > 1.01 * found.loss.over(0, 0.1)
    assert [one.action for one in advise(found)] == [""] * 6


def test_a_schedule_is_named_with_what_is_not_its_default():
    denoiser = ExactDenoiser(mixture("m1"), "modified-linear")
    found = measure(denoiser, denoiser.mixture.sample(1, generator(0, "test")), fine=1, coarse=1)
    assert "'linear' (beta_start 0.0, grid paper) has a finite slope" in advise(found)[1].finding
    assert advise(found)[2].certainty == "measured on 1 image, without a standard error"


def test_all_times_of_a_map_over_the_whole_schedule_are_counted():
    denoiser = ExactDenoiser(mixture("m1"), "linear", condition_map={"type": "e-tsdm", "t_tilde": 1000, "n": 2})
    found = measure(denoiser, denoiser.mixture.sample(2, generator(0, "test")), fine=1, coarse=1)
    assert found.updates == 1


def test_the_share_of_drawn_times_is_an_estimate_unless_they_are_uniform():
    for schedule, certainty in (("linear", "the share is exact"), ("edm", "the share is an estimate")):
        denoiser = ExactDenoiser(mixture("m1"), schedule)
        found = measure(denoiser, denoiser.mixture.sample(2, generator(0, "test")), fine=1, coarse=1)
        assert next(one for one in advise(found) if one.topic == "training").certainty.startswith(certainty)


class CancelledByNorm(nn.Module):
    """A network whose time embedding is removed by a group norm with one channel a group."""

    def __init__(self):
        super().__init__()
        self.embedding, self.norm = nn.Linear(1, 4), nn.GroupNorm(4, 4)
        self.first, self.last = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, x, time):
        embedded = self.embedding(time[:, None] / 1000)
        return self.last(torch.relu(self.norm(self.first(x) + embedded[:, :, None, None])))


def test_a_network_that_a_norm_blinds_to_time_is_found(tiny_spec):
    torch.manual_seed(0)
    denoiser = Denoiser(tiny_spec(schedule=SHORT), CancelledByNorm()).eval()
    found = measure(denoiser, torch.rand(4, 1, 8, 8, generator=generator(0, "test")) * 2 - 1, fine=2, coarse=2)
    assert 0 < found.awareness.value < 1e-4  # rounding
    assert verdict_of(found) == "ignores-t"
    first, *_, last = advise(found)
    assert "K means nothing" in first.finding
    assert "group" in first.action
    assert "means nothing here" in next(one.finding for one in advise(found) if one.topic == "smoothness")
    assert "time input first" in last.action


def test_one_condition_for_all_times_is_told_from_a_blind_network(tiny_denoiser):
    found = measure(tiny_denoiser(schedule=SHORT, condition_map="constant"), torch.zeros(2, 1, 8, 8), fine=1, coarse=1)
    assert found.one_condition
    assert found.awareness.value == 0
    first, *_, last = advise(found)
    assert "condition map gives all times one condition" in first.finding
    assert "condition map" in last.action
    assert "time input" not in last.action


def test_an_untrained_network_is_not_judged(tiny_spec):
    found = measure(tiny_spec(schedule=SHORT).build().eval(), torch.zeros(2, 1, 8, 8), fine=1, coarse=1)
    assert verdict_of(found) == "untrained"
    assert "never trained" in advise(found)[0].finding


def test_half_precision_is_measured_and_named(tiny_denoiser):
    found = measure(tiny_denoiser(schedule=SHORT).half(), torch.zeros(2, 1, 8, 8), fine=1, coarse=2)
    assert found.dtype == torch.float16
    assert found.lipschitz.mean.isfinite().all()


def test_outputs_that_are_not_finite_are_refused(tiny_denoiser):
    denoiser = tiny_denoiser()
    next(denoiser.parameters()).data.fill_(math.inf)
    with pytest.raises(PartError, match=r"^model: its output is not finite at t = 0; give the weights of an earlier checkpoint$"):
        measure(denoiser, torch.zeros(2, 1, 8, 8), fine=1, coarse=1)


@pytest.mark.parametrize("argument", ["fine", "coarse", "batch_size"])
def test_arguments_out_of_range_are_refused(argument, images):
    with pytest.raises(PartError, match=f"^{argument}: 0 is too few; give 1 or more$"):
        measure(ExactDenoiser(NORMAL, SCHEDULE), images[:2], **{argument: 0})


def test_no_images_are_refused(images):
    denoiser = ExactDenoiser(NORMAL, SCHEDULE)
    for call in (measure, time_awareness, lambda d, x: loss_curve(d, x, torch.zeros(1))):
        with pytest.raises(PartError, match=r"^images: none are given; give one or more$"):
            call(denoiser, images[:0])


def test_shared_conditions_change_the_condition_alone(tiny_denoiser):
    denoiser = tiny_denoiser(condition_map="sigma")
    shared, x = SharedConditions(denoiser, ETSDM()), torch.rand(2, 1, 8, 8, generator=generator(0, "test"))
    whole = Denoiser(denoiser.spec.model_copy(update={"condition_map": Compose(maps=(ETSDM(), denoiser.condition_map))}), denoiser.backbone)
    for t in (torch.tensor([27.0, 311.0]), torch.tensor(27.0), 27.0):
        assert torch.equal(shared.output(x, t), whole.output(x, t))
        assert torch.equal(shared.predict(x, t).x0, whole.predict(x, t).x0)
    t = torch.arange(120.0)
    assert torch.equal(shared.condition(t), whole.condition(t))
