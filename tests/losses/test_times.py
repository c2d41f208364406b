import torch

from etsdm.losses import Uniform
from etsdm.randomness import generator
from etsdm.schedules import Linear, Schedule


class Cosine(Schedule):
    """A continuous schedule, alpha = cos(pi t / 2)."""

    @property
    def horizon(self):
        return 1.0

    @property
    def domain(self):
        return 1e-3, 1.0

    def _log_snr(self, t):
        return -2 * torch.log(torch.tan(torch.pi / 2 * t))

    def t_of_log_snr(self, log_snr):
        return 2 / torch.pi * torch.atan(torch.exp(-log_snr / 2))


def draw(schedule, n):
    return Uniform().draw(schedule, n, generator(0, "test/times"))


def test_every_timestep_comes_equally_often():
    t = draw(Linear(timesteps=10), 100_000)
    assert t.dtype == torch.float64
    counts = t.long().bincount(minlength=10)
    assert len(counts) == 10
    # Five standard deviations of a binomial count, sqrt(1e5 * 0.1 * 0.9) = 95.
    assert (counts - 10_000).abs().max() < 5 * 95


def test_both_ends_of_the_schedule_are_drawn():
    assert draw(Linear(), 20_000).unique().tolist() == list(range(1000))


def test_one_timestep_is_always_drawn():
    assert draw(Linear(timesteps=1), 3).tolist() == [0, 0, 0]


def test_times_of_a_continuous_schedule_fill_its_domain():
    t = draw(Cosine(), 10_000)
    assert t.dtype == torch.float64
    assert t.min() >= 1e-3
    assert t.max() <= 1
    shares = t.histc(10, 1e-3, 1.0) / 10_000
    assert (shares - 0.1).abs().max() < 5 * 0.003  # five standard deviations, sqrt(0.1 * 0.9 / 1e4)


def test_times_are_those_of_the_stream():
    assert torch.equal(draw(Linear(), 50), draw(Linear(), 50))
    assert not torch.equal(draw(Linear(), 50), Uniform().draw(Linear(), 50, generator(1, "test/times")))
