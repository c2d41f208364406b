"""Laws of every registered schedule, presets and transforms included."""

import math
import pickle
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from etsdm.errors import PartError
from etsdm.registry import schedules
from etsdm.schedules import (
    Cosine,
    CosineShiftSimpleContinuous,
    Linear,
    ModifiedQuadratic,
    Quadratic,
    ZeroTerminal,
    ZeroTerminalContinuous,
)

SCHEDULES = {
    **{name: schedules.create(name) for name in schedules},
    "linear from zero": Linear(beta_start=0, grid="linspace-from-zero"),
    "modified-quadratic from zero": ModifiedQuadratic(grid="linspace-from-zero"),
    "zero-terminal from zero": ZeroTerminal(base=Linear(beta_start=0, grid="linspace-from-zero")),
    "zero-terminal from zero in two steps": ZeroTerminal(base=Linear(timesteps=2, beta_start=0, grid="linspace-from-zero")),
    "zero-terminal in two steps": ZeroTerminal(base=Quadratic(timesteps=2)),
    "zero-terminal twice": ZeroTerminal(base=ZeroTerminal(base=Cosine(timesteps=5))),
    "simple diffusion": CosineShiftSimpleContinuous(log_snr_bound=15.0),
    "zero-terminal simple diffusion": ZeroTerminalContinuous(base=CosineShiftSimpleContinuous(log_snr_bound=4.0)),
}
every = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
METHODS = ["alpha", "sigma", "alpha_bar", "log_snr", "snr", "beta", "t_of_log_snr"]
FRACTIONS = st.lists(st.floats(0, 1), min_size=2, max_size=10)


def at(schedule, *fractions):
    low, high = schedule.domain
    return (low + torch.tensor(fractions, dtype=torch.float64) * (high - low)).clamp(low, high)


def law(test):
    """For every schedule, at many times at once: what varies is the time, and the schedules are many."""
    return every(settings(max_examples=20)(given(fractions=FRACTIONS)(test)))


@law
def test_alpha_and_sigma_are_finite_on_the_closed_domain(schedule, fractions):
    t = at(schedule, 0.0, *fractions, 1.0)
    alpha, sigma = schedule.alpha_sigma(t)
    assert ((alpha >= 0) & (alpha <= 1 + 1e-15)).all()
    assert ((sigma >= 0) & sigma.isfinite()).all()
    assert not schedule.log_snr(t).isnan().any()
    assert not schedule.beta(t).isnan().any()
    if schedule.variance_preserving:
        torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(t), rtol=0, atol=2e-15)


@law
def test_log_snr_decreases(schedule, fractions):
    t = at(schedule, *sorted(fractions))
    early, late = schedule.log_snr(t[:-1]), schedule.log_snr(t[1:])
    # Where times are neighbours among the floats, so are the values, and each is rounded by itself.
    assert (early >= late - 1e-14 * late.abs().clamp(min=1).nan_to_num(posinf=0)).all()
    assert (early > late)[t.diff() > 1e-9 * schedule.horizon].all()


@law
def test_the_time_of_a_log_snr_is_the_inverse(schedule, fractions):
    t = at(schedule, *fractions)
    torch.testing.assert_close(schedule.t_of_log_snr(schedule.log_snr(t)), t, rtol=0, atol=1e-10)


@law
def test_the_log_snr_of_a_time_is_the_inverse(schedule, fractions):
    low, high = (max(-60.0, min(60.0, schedule.log_snr(end).item())) for end in reversed(schedule.domain))
    wanted = low + torch.tensor(fractions, dtype=torch.float64) * (high - low)
    found = schedule.log_snr(schedule.t_of_log_snr(wanted))
    # Near a last time without signal, or beside index T-1, a rounding of t is a visible part of what is left to the end.
    torch.testing.assert_close(found.sigmoid(), wanted.sigmoid(), rtol=0, atol=1e-12)


@every
def test_a_log_snr_beyond_the_ends_gives_the_ends(schedule):
    low, high = schedule.domain
    for beyond in (1e3, math.inf):
        assert schedule.t_of_log_snr(beyond).item() == pytest.approx(low, abs=1e-12)
        assert schedule.t_of_log_snr(-beyond).item() == pytest.approx(high, rel=1e-14)


@every
def test_values_are_float64_in_the_shape_of_the_times(schedule):
    for method in METHODS:
        for shape in ((), (0,), (1,), (2, 3), (2, 1, 1, 1)):
            found = getattr(schedule, method)(torch.zeros(shape, dtype=torch.float32))
            assert (found.shape, found.dtype) == (shape, torch.float64), method


@every
def test_values_are_on_the_device_of_the_times(schedule):
    # No value of a tensor on the meta device can be read, so this also finds what would wait for a GPU.
    for method in METHODS:
        assert getattr(schedule, method)(torch.empty(3, device="meta")).device.type == "meta", method


@every
def test_a_tensor_of_times_is_as_good_as_its_numbers(schedule):
    t = at(schedule, 0.0, 0.2, 0.5, 1.0)
    for method in METHODS:
        for time, value in zip(t.tolist(), getattr(schedule, method)(t), strict=True):
            # Vectorised kernels may round their functions otherwise.
            torch.testing.assert_close(getattr(schedule, method)(time), value, rtol=1e-14, atol=1e-14)


@every
def test_results_share_no_memory_with_the_times(schedule):
    t = torch.full((2,), 0.5, dtype=torch.float64)
    for value in (*schedule.alpha_sigma(t), schedule.log_snr(t), schedule.beta(t), schedule.t_of_log_snr(t)):
        value.zero_()
    assert t.tolist() == [0.5, 0.5]
    assert schedule.alpha_sigma(t)[1].count_nonzero() == 2


@every
def test_a_time_outside_is_refused_with_its_value_and_the_interval(schedule):
    end = schedule.domain[1]
    for method in ("alpha_sigma", "alpha", "sigma", "alpha_bar", "log_snr", "snr", "beta"):
        for wrong in (-0.25, end + 0.5, math.nan):
            message = f"t: {wrong:.12g} is outside the times of schedule {schedule.type_name!r}; give t in [0, {end:g}]"
            for t in (wrong, torch.tensor(wrong), torch.tensor([0.0, wrong])):
                with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
                    getattr(schedule, method)(t)


@every
def test_the_names_of_noise_agree(schedule):
    t = at(schedule, 0.1, 0.5, 0.9)
    alpha, sigma = schedule.alpha_sigma(t)
    assert torch.equal(schedule.alpha(t), alpha)
    assert torch.equal(schedule.sigma(t), sigma)
    torch.testing.assert_close(schedule.alpha_bar(t), alpha**2, rtol=1e-14, atol=0)
    torch.testing.assert_close(schedule.snr(t), alpha**2 / sigma**2, rtol=1e-13, atol=0)
    torch.testing.assert_close(schedule.log_snr(t), 2 * (alpha.log() - sigma.log()), rtol=0, atol=1e-13)


@every
def test_a_schedule_comes_back_from_its_dump_and_from_a_pickle(schedule):
    schedule.alpha(0.5)
    for copy in (schedules.parse(schedule.model_dump()), pickle.loads(pickle.dumps(schedule))):
        assert copy == schedule
        assert hash(copy) == hash(schedule)
        assert copy.alpha(0.5) == schedule.alpha(0.5)


@every
def test_values_can_be_differentiated_in_time(schedule):
    # Between two indices of a discrete schedule, where its log-SNR has no corner.
    middle, h = at(schedule, 0.3).floor() + 0.55, 1e-4
    t = middle.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(schedule.sigma(t), t)
    torch.testing.assert_close(gradient, (schedule.sigma(middle + h) - schedule.sigma(middle - h)) / (2 * h), rtol=1e-5, atol=0)


@pytest.mark.parametrize("count", [1, 2, 256, 257, 1000])
@pytest.mark.parametrize(("wrong", "found"), [(-1.0, "-1"), (1000.0, "1000"), (float("nan"), "nan")])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_one_time_outside_is_found_among_any_number(count, wrong, found, dtype):
    schedule, times = schedules.create("linear"), torch.linspace(0, 999, count).to(dtype)
    schedule.check_times(times)
    times[count // 2] = wrong
    for shaped in (times, times.reshape(1, -1)):
        for call in (schedule.check_times, schedule.alpha):
            with pytest.raises(PartError, match=rf"^t: {found} is outside the times of schedule 'linear'"):
                call(shaped)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_integers_are_times(dtype):
    schedule = schedules.create("linear", timesteps=100)
    schedule.check_times(torch.tensor([0, 99], dtype=dtype))
    with pytest.raises(PartError, match=r"^t: 100 is outside"):
        schedule.check_times(torch.tensor([0, 100], dtype=dtype))
