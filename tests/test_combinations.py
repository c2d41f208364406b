"""Every schedule with every target and every condition map: what a denoiser computes beside its network is finite and consistent."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from etsdm.condition_maps import Identity
from etsdm.registry import condition_maps, schedules, targets

SCHEDULES = {name: schedules.create(name) for name in schedules}
TARGETS = {name: targets.create(name) for name in targets}
OPEN_ENDED = {"eps", "score"}  # they need a signal, and are asked for without one by their own field
X0, EPS = 0.7, -1.3


def maps_of(schedule):
    """Every registered map, made for a schedule's times."""
    end = schedule.horizon
    shared = {"e-tsdm": {"t_tilde": end / 10}, "shared-intervals": {"edges": [end / 100, end / 20, end / 3], "representative": "mid"}}
    whole = {**shared, "compose": {"maps": [{"type": "e-tsdm", "t_tilde": end / 10}, "log-snr"]}}
    return [condition_maps.create(name, **whole.get(name, {})) for name in condition_maps]


MAPS = {name: maps_of(schedule) for name, schedule in SCHEDULES.items()}
# Both ends, the neighbourhood of 0, and anything between.
places = st.one_of(st.sampled_from([0.0, 1e-9, 1e-6, 1.0]), st.floats(0, 1))


def at(schedule, place):
    low, high = schedule.domain
    return torch.tensor(low + place * (high - low), dtype=torch.float64).clamp(low, high)


@given(name=st.sampled_from(sorted(SCHEDULES)), place=places, k=st.integers(0, len(list(condition_maps)) - 1))
@settings(max_examples=300)
def test_a_condition_is_finite_and_within_the_maps_own_range(name, place, k):
    schedule, map_ = SCHEDULES[name], MAPS[name][k]
    assert map_.check(schedule) == []
    condition = map_(at(schedule, place), schedule)
    assert condition.isfinite()
    if getattr(map_, "scale", "none") == "horizon":
        assert -1e-9 * schedule.horizon <= condition <= schedule.horizon * (1 + 1e-9)
    low, high = map_.shared_interval(at(schedule, place), schedule)
    assert low <= high


@given(name=st.sampled_from(sorted(SCHEDULES)), target=st.sampled_from(sorted(TARGETS)), place=places)
@settings(max_examples=300)
def test_an_image_and_its_noise_come_back_from_the_ideal_output(name, target, place):
    schedule, spoken = SCHEDULES[name], TARGETS[target]
    alpha, sigma = schedule.alpha_sigma(at(schedule, place))
    if target in OPEN_ENDED and alpha == 0:
        spoken = targets.create(target, allow_eps_at_zero_snr=True)
    x0, eps = torch.tensor(X0, dtype=torch.float64), torch.tensor(EPS, dtype=torch.float64)
    x = alpha * x0 + sigma * eps
    c = spoken.coefficients(alpha, sigma)
    assert c.c_in.isfinite()
    F = spoken.value(x0, eps, alpha, sigma)
    # A division by alpha or sigma magnifies the rounding of x.
    rounding = 1e-14 * (1 + float(x.abs()))
    # Below about 1e-308 a division by sigma is beyond the largest number: there is no score, and x0 says nothing of eps.
    divides = (1 / sigma).isfinite()
    if alpha > 0 and (target != "score" or divides):
        torch.testing.assert_close(c.c_skip * x + c.c_out * F, x0, rtol=0, atol=rounding * float(1 + 1 / alpha))
    if divides:
        torch.testing.assert_close(c.e_skip * x + c.e_out * F, eps, rtol=0, atol=rounding * float(1 + 1 / sigma))


@given(name=st.sampled_from(sorted(SCHEDULES)), target=st.sampled_from(sorted(TARGETS)), place=places)
def test_only_noise_targets_are_undefined_and_only_without_signal(name, target, place):
    alpha, sigma = SCHEDULES[name].alpha_sigma(at(SCHEDULES[name], place))
    if target in OPEN_ENDED and alpha == 0:
        with pytest.raises(ValueError, match=f"^target: '{target}' .* x0 at alpha = 0; "):
            TARGETS[target].coefficients(alpha, sigma)
    else:
        TARGETS[target].coefficients(alpha, sigma)


def test_the_identity_is_the_same_for_every_schedule():
    for schedule in SCHEDULES.values():
        t = at(schedule, 0.3)
        assert torch.equal(Identity()(t, schedule), t)
