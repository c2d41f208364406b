import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import stats

from etsdm.condition_maps import ETSDM, Identity, Inverse, InverseSigmoid, LogSNR, Sigma
from etsdm.losses.times import LogNormal, SoftTruncation, Uniform, UniformIn
from etsdm.randomness import generator
from etsdm.registry import FieldProblem, format_errors, time_samplers
from etsdm.schedules import EDM, CosineContinuous, Flow, Linear, LinearContinuous

SAMPLERS = [Uniform(), UniformIn(map=Inverse()), UniformIn(map=LogSNR()), SoftTruncation(), SoftTruncation(k=3), LogNormal()]
every_sampler = pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)


def draw(sampler, schedule, n, seed=0):
    return sampler.draw(schedule, n, generator(seed, "test/times"))


def batches(sampler, schedule, count):
    """One time from each of `count` mini-batches."""
    stream = generator(0, "test/batches")
    return torch.cat([sampler.draw(schedule, 1, stream) for _ in range(count)])


def fits(found, distribution):
    """Whether a Kolmogorov-Smirnov test does not tell them apart; the seed is fixed, so that the answer is."""
    return stats.kstest(found.numpy(), distribution).pvalue > 0.01


@every_sampler
@pytest.mark.parametrize("schedule", [Linear(), Linear(timesteps=1), LinearContinuous(), Flow(), EDM()], ids=lambda s: s.type_name)
def test_times_are_float64_and_in_the_domain(sampler, schedule):
    t = draw(sampler, schedule, 5000)
    assert t.dtype == torch.float64
    assert t.shape == (5000,)
    assert schedule.domain[0] <= t.min()
    assert t.max() <= schedule.domain[1]


@every_sampler
def test_times_are_those_of_the_stream(sampler):
    assert torch.equal(draw(sampler, Linear(), 50), draw(sampler, Linear(), 50))
    assert not torch.equal(draw(sampler, Linear(), 50), draw(sampler, Linear(), 50, seed=1))


def test_every_timestep_comes_equally_often():
    counts = draw(Uniform(), Linear(timesteps=10), 100_000).long().bincount(minlength=10)
    assert len(counts) == 10
    # Five standard deviations of a binomial count, sqrt(1e5 * 0.1 * 0.9) = 95.
    assert (counts - 10_000).abs().max() < 5 * 95


def test_both_ends_of_the_schedule_are_drawn():
    assert draw(Uniform(), Linear(), 20_000).unique().tolist() == list(range(1000))


def test_uniform_timesteps_are_one_draw_of_integers():
    # What training drew before there were other samplers: resumed runs depend on it.
    expected = torch.randint(1000, (64,), generator=generator(0, "test/times")).double()
    assert torch.equal(draw(Uniform(), Linear(), 64), expected)


def test_one_timestep_is_always_drawn():
    assert draw(Uniform(), Linear(timesteps=1), 3).tolist() == [0, 0, 0]


def test_times_of_a_continuous_schedule_fill_its_domain():
    assert fits(draw(Uniform(), CosineContinuous(), 20_000), stats.uniform().cdf)
    assert fits(draw(Uniform(), EDM(), 20_000), stats.uniform(0, 80).cdf)


def test_one_over_t_is_uniform():
    t = draw(UniformIn(map=Inverse()), Linear(), 20_000) + 1
    assert fits(1 / t, stats.uniform(1e-3, 1 - 1e-3).cdf)
    # (1 - 1/20) / (1 - 1/1000) and (1/100 - 1/1000) / (1 - 1/1000); five standard deviations are .008 and .003.
    assert (t <= 20).double().mean().item() == pytest.approx(0.951, abs=0.008)
    assert (t > 100).double().mean().item() == pytest.approx(0.009, abs=0.0034)


def test_the_inverse_sigmoid_puts_a_third_at_each_end():
    t = (draw(UniformIn(map=InverseSigmoid()), Linear(), 20_000) + 1) / 1001
    assert fits(torch.logit(t), stats.uniform(-math.log(1000), 2 * math.log(1000)).cdf)
    # (log 1000 - log 9) / (2 log 1000) = .341 on either side; five standard deviations are .017.
    assert (t < 0.1).double().mean().item() == pytest.approx(0.341, abs=0.017)
    assert (t > 0.9).double().mean().item() == pytest.approx(0.341, abs=0.017)


def test_noise_levels_are_uniform():
    assert fits(draw(UniformIn(map=Sigma()), Flow(), 20_000), stats.uniform().cdf)  # sigma = t
    schedule = LinearContinuous()
    log_snr = schedule.log_snr(draw(UniformIn(map=LogSNR(bound=5)), schedule, 20_000))
    assert fits(log_snr, stats.uniform(-5, 10).cdf)


def test_uniform_in_the_identity_is_uniform_between_the_timesteps():
    t = draw(UniformIn(map=Identity()), Linear(), 20_000)
    assert fits(t, stats.uniform(0, 999).cdf)
    assert (t != t.round()).any()


def test_the_scale_of_a_map_changes_no_time():
    for kind in (Inverse, InverseSigmoid, LogSNR):
        one, other = (draw(UniformIn(map=kind(scale=scale)), Linear(), 100) for scale in ("horizon", "none"))
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-9)


def test_a_map_that_shares_conditions_is_refused():
    with pytest.raises(ValidationError) as error:
        UniformIn(map=ETSDM())
    message = "'e-tsdm' shares conditions between times and has no inverse; give a remap"
    assert format_errors(error.value) == [FieldProblem(("map",), message)]


def truncated(t, k, least):
    """P(time <= t): uniform above tau, averaged over the density of tau on [least, 1], by a sum over log tau."""
    tau = np.exp(np.linspace(math.log(least), 0, 4001))[:-1]
    weight = tau ** (1 - k)  # of d log tau
    share = np.clip((np.asarray(t)[:, None] - tau) / (1 - tau), 0, 1)
    return (share * weight).sum(1) / weight.sum()


@pytest.mark.parametrize("k", [0.0, 0.8, 1.0, 1.2, 2.0, 3.0])
def test_soft_truncation_mixes_uniform_times_above_random_ends(k):
    found = batches(SoftTruncation(k=k, t_min=1e-3), LinearContinuous(), 2000)
    assert fits(found, lambda t: truncated(t, k, 1e-3))


@pytest.mark.parametrize(("k", "near"), [(1.0, 1 + 1e-12), (1.0, 1 - 1e-12)])
def test_the_density_of_the_end_passes_through_one_over_tau(k, near):
    one, other = (draw(SoftTruncation(k=power), LinearContinuous(), 100) for power in (k, near))
    assert torch.allclose(one, other, rtol=1e-9, atol=0)


def test_the_end_of_a_batch_has_the_published_density():
    # The original code draws tau = eps^(1 - u) for k = 1 and eps / (1 - u (1 - eps^(k - 1)))^(1 / (k - 1)) else, T = 1.
    # The least of many times in a batch is tau to within (1 - tau) / 2000; log(tau / eps) is then close to its own law.
    for k, law in (
        (1.0, lambda tau: 1 - np.log(tau) / math.log(1e-3)),
        (2.0, lambda tau: (1 - 1e-3 / tau) / (1 - 1e-3)),
    ):
        stream, sampler = generator(1, "test/batches"), SoftTruncation(k=k, t_min=1e-3)
        ends = torch.stack([sampler.draw(LinearContinuous(), 20_000, stream).min() for _ in range(300)])
        assert fits(ends, lambda tau, law=law: law(np.clip(tau, 1e-3, 1)))


def test_all_times_of_a_batch_are_above_one_end():
    sampler = SoftTruncation(k=1.0)
    stream = generator(0, "test/batches")
    ends = [sampler.draw(LinearContinuous(), 1000, stream).min().item() for _ in range(40)]
    # Were the end drawn for each image, every batch of 1000 would reach below .01.
    assert max(ends) > 0.1
    assert min(ends) < 0.01


@pytest.mark.parametrize("k", [0.0, 1.0, 2.0])
def test_soft_truncation_of_timesteps_by_enumeration(k):
    # tau in 1..5 with P ~ tau^-k, t in tau..5 with P = 1 / (6 - tau); the index is t - 1.
    p_tau = [tau**-k / sum(s**-k for s in range(1, 6)) for tau in range(1, 6)]
    expected = [sum(p_tau[tau - 1] / (6 - tau) for tau in range(1, t + 1)) for t in range(1, 6)]
    t = batches(SoftTruncation(k=k), Linear(timesteps=5), 4000)
    assert torch.equal(t, t.round())
    assert stats.chisquare(t.long().bincount(minlength=5).numpy(), 4000 * np.array(expected)).pvalue > 0.01


def test_a_least_time_leaves_out_the_timesteps_below_it():
    # t_min = 0.25 of T = 10 is 2.5: the least end is t = 3, index 2.
    assert batches(SoftTruncation(k=5, t_min=0.25), Linear(timesteps=10), 500).unique().tolist() == list(range(2, 10))


def test_a_large_power_leaves_the_uniform_sampler():
    assert fits(batches(SoftTruncation(k=100, t_min=1e-4), LinearContinuous(), 4000), stats.uniform().cdf)


def test_log_normal_is_that_of_edm():
    # ln sigma ~ N(-1.2, 1.2^2); t is sigma itself.
    assert fits(draw(LogNormal(), EDM(), 20_000).log(), stats.norm(-1.2, 1.2).cdf)
    assert fits(draw(LogNormal(p_mean=-0.4, p_std=0.5), EDM(), 20_000).log(), stats.norm(-0.4, 0.5).cdf)


def test_log_normal_is_of_the_noise_over_the_signal():
    schedule = LinearContinuous()
    t = draw(LogNormal(), schedule, 20_000)
    assert fits(torch.log(schedule.sigma(t) / schedule.alpha(t)), stats.norm(-1.2, 1.2).cdf)


def test_levels_beyond_the_schedule_are_its_ends():
    # The least level of DDPM's schedule is 0.01, ln = -4.6: 2.3 deviations below -2, so that 1.1 % fall below it.
    t = draw(LogNormal(p_mean=-2.0, p_std=2.605 / 2.3), Linear(), 20_000)
    assert (t == 0).double().mean().item() == pytest.approx(stats.norm.cdf(-2.3), abs=5 * 0.0008)
    assert (t != t.round()).any()


@pytest.mark.parametrize(
    ("name", "field", "value", "message"),
    [
        ("soft-truncation", "k", -1, "found -1; give 0 or more"),
        ("soft-truncation", "t_min", 0, "found 0; give a value above 0"),
        ("soft-truncation", "t_min", 1, "found 1; give a value below 1"),
        ("log-normal", "p_std", 0, "found 0; give a value above 0"),
    ],
)
def test_wrong_fields_are_named_with_the_mend(name, field, value, message):
    with pytest.raises(ValidationError) as error:
        time_samplers[name](**{field: value})
    assert format_errors(error.value) == [FieldProblem((field,), message)]
