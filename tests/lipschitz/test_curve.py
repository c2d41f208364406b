import math

import pytest
import torch
from torch import nn

import etsdm
from etsdm.denoiser import Denoiser
from etsdm.randomness import normal
from etsdm.registry import schedules

IMAGES = normal(0, "test/images", range(6), (1, 8, 8))


class NoiseOfNormalData(nn.Module):
    """eps = sigma(time) x, the exact noise prediction for data N(0, I) (paper, below Eq. 7)."""

    def __init__(self, schedule):
        super().__init__()
        self.schedule = schedule
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, x, time):
        return self.schedule.sigma(time).reshape(-1, 1, 1, 1) * x


class Counting(nn.Module):
    """A network that notes the times of every image that passes."""

    def __init__(self, network):
        super().__init__()
        self.network = network
        self.times = []

    def forward(self, x, time):
        self.times += time.tolist()
        return self.network(x, time)


@pytest.fixture
def normal_data(tiny_spec):
    """The exact denoiser of N(0, I) under a schedule, with any condition map."""

    def make(schedule="linear", **parts):
        spec = tiny_spec(schedule=schedule, **parts)
        return Denoiser(spec, NoiseOfNormalData(spec.schedule))

    return make


@pytest.fixture(scope="module")
def shared(tiny_denoiser):
    return tiny_denoiser(condition_map="e-tsdm")


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("linear", {0: 4.829, 1: 4.137, 5: 3.459, 10: 3.284, 50: 3.094, 99: 2.911, 200: 2.293, 500: 0.408}),
        ("quadratic", {0: 4.235, 1: 3.313, 5: 2.203, 10: 1.804, 50: 1.435, 99: 1.541, 200: 1.751, 500: 1.166}),
        ("cosine", {0: 2.925, 1: 2.415, 5: 1.869, 10: 1.708, 50: 1.566, 99: 1.540, 200: 1.477, 500: 1.093}),
    ],
)
def test_normal_data_have_the_closed_form(normal_data, schedule, expected):
    # K(i, i+1) = |sigma_{i+1} - sigma_i| E||x||, where E||x|| = sqrt(2) Gamma((d+1)/2) / Gamma(d/2) for x ~ N(0, I) in d
    # dimensions; the numbers are 1000 |sigma_{i+1} - sigma_i| in real arithmetic, to four digits.
    d, n = 4, 4096
    images = normal(0, "test/normal", range(n), (1, 2, 2)).double()
    curve = etsdm.lipschitz_curve(normal_data(schedule), images, expected, batch_size=n)
    length = math.sqrt(2) * math.gamma((d + 1) / 2) / math.gamma(d / 2)
    for mean, se, slope in zip(curve.mean.tolist(), curve.se.tolist(), expected.values(), strict=True):
        assert abs(1000 * mean - slope * length) < 4 * 1000 * se + 5e-4 * length
        # The spread of ||x||: its variance is d - E||x||^2.
        assert 1000 * se == pytest.approx(slope * math.sqrt((d - length**2) / n), rel=0.05)


def test_each_image_has_a_value_of_its_own(normal_data):
    denoiser, schedule = normal_data(), schedules.create("linear")
    images = IMAGES.double()
    curve = etsdm.lipschitz_curve(denoiser, images, [3, 300], seed=5)
    noise = normal(5, "lipschitz/noise", range(6), (1, 8, 8)).double()
    for k, t in enumerate((3, 300)):
        x = schedule.alpha(t) * images + schedule.sigma(t) * noise
        expected = (schedule.sigma(t + 1) - schedule.sigma(t)).abs() * x.flatten(1).norm(dim=1)
        torch.testing.assert_close(curve.values[k], expected, rtol=1e-6, atol=0)  # the noise is float32
    torch.testing.assert_close(curve.mean, curve.values.mean(1))
    torch.testing.assert_close(curve.se, curve.values.std(1) / math.sqrt(6))
    assert curve.t.tolist() == [3, 300]


def test_the_division_is_by_the_distance_in_time(normal_data):
    schedule = schedules.create("linear")
    curve = etsdm.lipschitz_curve(normal_data(), IMAGES.double(), [100], dt=50)
    slope = (schedule.sigma(150) - schedule.sigma(100)) / 50
    one = etsdm.lipschitz_curve(normal_data(), IMAGES.double(), [100])
    torch.testing.assert_close(curve.values / one.values, (slope / (schedule.sigma(101) - schedule.sigma(100))).expand(1, 6))
    assert curve.dt == 50


def test_shared_conditions_leave_only_the_jumps(shared):
    curve = etsdm.lipschitz_curve(shared, IMAGES, range(110))
    jumps = [19, 39, 59, 79, 99]
    assert (curve.values[jumps] > 0).all()
    inside = [t for t in range(100) if t not in jumps]
    assert curve.values[inside].count_nonzero() == 0
    assert (curve.values[100:] > 0).all()


def test_the_jump_of_shared_conditions_is_that_of_their_times(normal_data):
    # Told 0 at t = 19 and 20 at t = 20, for one step of true time (paper Eq. 8 with f_T(t) for t).
    schedule = schedules.create("linear")
    curve = etsdm.lipschitz_curve(normal_data(condition_map="e-tsdm"), IMAGES.double(), [19])
    baseline = etsdm.lipschitz_curve(normal_data(), IMAGES.double(), [19])
    ratio = (schedule.sigma(20) - schedule.sigma(0)) / (schedule.sigma(20) - schedule.sigma(19))
    torch.testing.assert_close(curve.values, ratio * baseline.values)


def test_no_pass_is_spent_where_the_condition_is_the_same(shared):
    counting = Denoiser(shared.spec, Counting(shared.backbone))
    etsdm.lipschitz_curve(counting, IMAGES, range(19))
    assert counting.backbone.times == []
    etsdm.lipschitz_curve(counting, IMAGES, range(25), batch_size=4)
    # Only t = 19 needs the network: six images, in batches of four and two, told 0 and 20.
    assert sorted(counting.backbone.times) == 6 * [0] + 6 * [20]


def test_the_batch_size_changes_nothing(shared):
    together = etsdm.lipschitz_curve(shared, IMAGES, [19, 150]).values
    for batch_size in (1, 4):
        found = etsdm.lipschitz_curve(shared, IMAGES, [19, 150], batch_size=batch_size).values
        torch.testing.assert_close(found, together, rtol=1e-4, atol=1e-5)  # convolutions may add up in another order


def test_labels_reach_the_network_image_by_image(tiny_denoiser):
    denoiser, y = tiny_denoiser(backbone={"num_classes": 10}), torch.arange(6)
    together = etsdm.lipschitz_curve(denoiser, IMAGES, [19], y=y)
    in_parts = etsdm.lipschitz_curve(denoiser, IMAGES, [19], y=y, batch_size=4)
    torch.testing.assert_close(in_parts.values, together.values, rtol=1e-4, atol=1e-5)
    assert (etsdm.lipschitz_curve(denoiser, IMAGES, [19], y=y.flip(0)).values != together.values).all()


def test_the_noise_is_a_function_of_the_seed(shared):
    one, same, other = (etsdm.lipschitz_curve(shared, IMAGES, [19], seed=seed).values for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_one_image_has_no_standard_error(shared):
    curve = etsdm.lipschitz_curve(shared, IMAGES[:1], [19, 20])
    assert curve.se.isnan().all()
    assert curve.mean.isfinite().all()


def test_values_are_double_precision_without_a_gradient(shared):
    curve = etsdm.lipschitz_curve(shared, IMAGES, [19])
    assert all(value.dtype == torch.float64 and not value.requires_grad for value in (curve.t, curve.mean, curve.se, curve.values))


def test_a_time_whose_neighbour_is_outside_is_refused(shared):
    assert etsdm.lipschitz_curve(shared, IMAGES[:1], [998]).mean.isfinite().all()
    with pytest.raises(ValueError, match=r"^t: 1000 is outside the times of schedule 'linear'; give t in \[0, 999\]$"):
        etsdm.lipschitz_curve(shared, IMAGES[:1], [5, 999])
    with pytest.raises(ValueError, match=r"^t: -1 is outside"):
        etsdm.lipschitz_curve(shared, IMAGES[:1], [-1])


def test_no_images_and_no_times_are_refused(shared):
    with pytest.raises(ValueError, match=r"^0 images and 1 times; give one or more of each$"):
        etsdm.lipschitz_curve(shared, IMAGES[:0], [3])
    with pytest.raises(ValueError, match=r"^6 images and 0 times; give one or more of each$"):
        etsdm.lipschitz_curve(shared, IMAGES, [])
