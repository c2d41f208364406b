"""How sigma leaves zero: the paper's criterion, singular where alpha'(0) is not 0, and its numbers."""

import math

import pytest

from etsdm.registry import schedules
from etsdm.schedules import CosineShift, CosineShiftContinuous, CosineShiftSimpleContinuous, Slope, ZeroTerminal, ZeroTerminalContinuous

# Paper section 3: coefficients of 1/sqrt(t), or slopes. Derived in closed form where no number is printed.
SINGULAR = {
    "linear": 0.158114,  # sqrt(0.1)/2
    "quadratic": 0.158114,
    "ldm": math.sqrt(1.5) / 2,
    "sd": math.sqrt(0.85) / 2,
    "cosine": 0.098560,  # sqrt(0.0194281/2)
    "cosine-shift": 0.394240,  # four times that, for 256 pixels
    "zero-terminal-snr": 0.158636,  # sqrt(0.1/(1 - exp(-5.025)))/2
}
REGULAR = {
    "modified-linear": 3.16228,  # sqrt(20/2)
    "modified-quadratic": 0.0,
    "modified-cosine": math.pi / 2,
    "cosine-shift-simple": 6.2832,  # (pi/2)(256/64)
}
ONLY_CONTINUOUS = {
    "sigmoid": Slope(0.273617, True),  # sqrt(sig'(3) 6/(sig(3) - sig(-3)))/2
    "vp-edm": Slope(0.158114, True),
    "flow": Slope(1.0, False),
    "edm": Slope(1.0, False),
    "ve": Slope(0.02 * math.log(5000), False),
}
SLOPES = {
    **{name: Slope(value, True) for name, value in SINGULAR.items()},
    **{name: Slope(value, False) for name, value in REGULAR.items()},
}


def agrees(found, expected):
    assert found.singular is expected.singular
    assert found.value == pytest.approx(expected.value, abs=5e-6 * max(1, expected.value))


@pytest.mark.parametrize("name", schedules)
def test_every_schedule_says_how_it_leaves_zero(name):
    # A continuous schedule leaves zero as the discrete one that tends to it.
    expected = ONLY_CONTINUOUS[name] if name in ONLY_CONTINUOUS else SLOPES[name.removesuffix("-continuous")]
    agrees(schedules.create(name).slope_at_zero(), expected)


def test_a_slope_is_per_unit_of_time_whatever_the_number_of_timesteps():
    # T beta_start is 0.1 for both.
    few, many = (schedules.create("linear", timesteps=n, beta_start=0.1 / n, beta_end=20 / n) for n in (100, 10_000))
    assert few.slope_at_zero().value == pytest.approx(many.slope_at_zero().value, rel=1e-15)


@pytest.mark.parametrize("size", [32, 64, 512])
def test_the_shift_multiplies_the_slope_by_the_image_size(size):
    agrees(CosineShift(image_size=size).slope_at_zero(), Slope(0.0985600 * size / 64, True))
    agrees(CosineShiftContinuous(image_size=size, s=0).slope_at_zero(), Slope(math.pi / 2 * size / 64, False))
    agrees(CosineShiftSimpleContinuous(image_size=size).slope_at_zero(), Slope(math.pi / 2 * size / 64, False))


def test_a_bound_on_log_snr_leaves_some_noise_at_zero_and_a_finite_slope():
    bounded = CosineShiftSimpleContinuous(log_snr_bound=15.0)
    assert bounded.slope_at_zero().value == pytest.approx(6.279, abs=5e-4)
    assert bounded.sigma(0).item() == pytest.approx(0.002212, abs=5e-7)
    assert bounded.slope_at_zero().singular is False


@pytest.mark.parametrize("base", ["cosine-shift-simple", "modified-linear", "modified-quadratic", "modified-cosine"])
def test_rescaling_makes_no_schedule_singular(base):
    assert ZeroTerminal(base=base).slope_at_zero().singular is False
    assert ZeroTerminalContinuous(base=f"{base}-continuous").slope_at_zero().singular is False


def test_rescaling_steepens_the_start():
    # 1 - alpha and so sigma^2 are divided by 1 - alpha_1; alpha_1 = exp(-B(1)/2) with B(1) = 20/2.
    slope = ZeroTerminalContinuous(base="modified-linear-continuous").slope_at_zero()
    assert slope.value == pytest.approx(math.sqrt(10 / (1 - math.exp(-5))), rel=1e-14)
