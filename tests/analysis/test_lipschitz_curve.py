import math
import re

import pytest
import torch

import etsdm
from etsdm.randomness import per_sample_normal
from etsdm.registry import schedules, targets
from etsdm.theory import ExactDenoiser, mixture

IMAGES = per_sample_normal(0, "test/images", range(6), (1, 8, 8))


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
    images = per_sample_normal(0, "test/normal", range(n), (1, 2, 2)).double()
    curve = etsdm.lipschitz_curve(normal_data(schedule), images, expected, batch_size=n)
    length = math.sqrt(2) * math.gamma((d + 1) / 2) / math.gamma(d / 2)
    for mean, se, slope in zip(curve.mean.tolist(), curve.se.tolist(), expected.values(), strict=True):
        assert abs(1000 * mean - slope * length) < 4 * 1000 * se + 5e-4 * length
        # The spread of ||x||: its variance is d - E||x||^2.
        assert 1000 * se == pytest.approx(slope * math.sqrt((d - length**2) / n), rel=0.05)


def test_each_image_has_a_value_of_its_own(normal_data):
    denoiser, schedule = normal_data(), schedules.create("linear")
    images = IMAGES.double()
    curve = etsdm.lipschitz_curve(denoiser, images, [3, 300], seed=5, keep_values=True)
    noise = per_sample_normal(5, "lipschitz/noise", range(6), (1, 8, 8)).double()
    for k, t in enumerate((3, 300)):
        x = schedule.alpha(t) * images + schedule.sigma(t) * noise
        expected = (schedule.sigma(t + 1) - schedule.sigma(t)).abs() * x.flatten(1).norm(dim=1)
        torch.testing.assert_close(curve.values[k], expected, rtol=1e-6, atol=0)  # the network gets its time in float32
    torch.testing.assert_close(curve.mean, curve.values.mean(1))
    torch.testing.assert_close(curve.se, curve.values.std(1) / math.sqrt(6))
    assert curve.t.tolist() == [3, 300]


def test_the_division_is_by_the_distance_in_time(normal_data):
    schedule = schedules.create("linear")
    curve = etsdm.lipschitz_curve(normal_data(), IMAGES.double(), [100], dt=50, keep_values=True)
    slope = (schedule.sigma(150) - schedule.sigma(100)) / 50
    one = etsdm.lipschitz_curve(normal_data(), IMAGES.double(), [100], keep_values=True)
    torch.testing.assert_close(curve.values / one.values, (slope / (schedule.sigma(101) - schedule.sigma(100))).expand(1, 6))
    assert (curve.dt == 50).all()


def test_shared_conditions_leave_only_the_jumps(shared):
    curve = etsdm.lipschitz_curve(shared, IMAGES, range(110), keep_values=True)
    jumps = [19, 39, 59, 79, 99]
    assert (curve.values[jumps] > 0).all()
    inside = [t for t in range(100) if t not in jumps]
    assert curve.values[inside].count_nonzero() == 0
    assert (curve.values[100:] > 0).all()


def test_the_jump_of_shared_conditions_is_that_of_their_times(normal_data):
    # Told 0 at t = 19 and 20 at t = 20, for one step of true time (paper Eq. 8 with f_T(t) for t).
    schedule = schedules.create("linear")
    curve = etsdm.lipschitz_curve(normal_data(condition_map="e-tsdm"), IMAGES.double(), [19], keep_values=True)
    baseline = etsdm.lipschitz_curve(normal_data(), IMAGES.double(), [19], keep_values=True)
    ratio = (schedule.sigma(20) - schedule.sigma(0)) / (schedule.sigma(20) - schedule.sigma(19))
    torch.testing.assert_close(curve.values, ratio * baseline.values)


def test_the_batch_size_changes_nothing(shared):
    together = etsdm.lipschitz_curve(shared, IMAGES, [19, 150], keep_values=True)
    for batch_size in (1, 4):
        found = etsdm.lipschitz_curve(shared, IMAGES, [19, 150], batch_size=batch_size, keep_values=True)
        for a, b in zip((found.values, found.mean, found.se), (together.values, together.mean, together.se), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)  # convolutions may add up in another order


def test_batches_are_as_good_as_one_tensor(normal_data):
    denoiser, images = normal_data(), IMAGES.double()
    whole = etsdm.lipschitz_curve(denoiser, images, [19, 150], seed=3)
    parts = etsdm.lipschitz_curve(denoiser, iter(images.split([1, 3, 2])), [19, 150], seed=3)
    assert parts.images == whole.images == 6
    torch.testing.assert_close(parts.mean, whole.mean, rtol=1e-13, atol=0)
    torch.testing.assert_close(parts.se, whole.se, rtol=1e-12, atol=0)
    assert parts.values is None


def test_labels_reach_the_network_image_by_image(tiny_denoiser):
    denoiser, y = tiny_denoiser(backbone={"num_classes": 10}), torch.arange(6)

    def values(images, **options):
        return etsdm.lipschitz_curve(denoiser, images, [19], keep_values=True, **options).values

    together = values(IMAGES, y=y)
    torch.testing.assert_close(values(IMAGES, y=y, batch_size=4), together, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(values([(IMAGES[:5], y[:5]), (IMAGES[5:], y[5:])]), together, rtol=1e-4, atol=1e-5)
    assert (values(IMAGES, y=y.flip(0)) != together).all()


def test_whatever_the_network_takes_comes_with_a_batch(tiny_denoiser):
    # Labels under their name are labels, and small images are cut into batches like the images that they belong to.
    labelled, y = tiny_denoiser(backbone={"num_classes": 10}), torch.arange(6)
    enlarging, small = (
        tiny_denoiser(backbone={"in_channels": 2}, super_resolution={"factor": 2}),
        per_sample_normal(0, "test/small", range(6), (1, 4, 4)),
    )
    expected = etsdm.lipschitz_curve(labelled, IMAGES, [19], y=y, keep_values=True).values

    def values(denoiser, name, cond, **options):
        pairs = [(IMAGES[rows], {name: cond[rows]}) for rows in (slice(0, 1), slice(1, 6))]
        return etsdm.lipschitz_curve(denoiser, pairs, [19], keep_values=True, **options).values

    torch.testing.assert_close(values(labelled, "y", y), expected, rtol=1e-4, atol=1e-5)
    together = values(enlarging, "low_res", small)
    torch.testing.assert_close(values(enlarging, "low_res", small, batch_size=2), together, rtol=1e-4, atol=1e-5)
    other = values(enlarging, "low_res", torch.cat([small[:5], -small[5:]]))
    torch.testing.assert_close(other[:, :5], together[:, :5], rtol=1e-4, atol=1e-5)
    assert (other[:, 5] - together[:, 5]).abs().max() > 1e-3 * together.abs().max()
    assert etsdm.lipschitz_curve(labelled, [(IMAGES, {"y": y})], [19], mode="coupled").mean > 0
    with pytest.raises(ValueError, match=r"^low_res: .*needs the low-resolution images"):
        etsdm.lipschitz_curve(enlarging, IMAGES, [19])


def test_latents_are_measured_as_images_are(tiny_denoiser):
    first_stage = {"type": "vq", "resolution": 8, "in_channels": 1, "out_ch": 1, "ch": 8, "ch_mult": (1, 2), "num_res_blocks": 1}
    first_stage |= {"attn_resolutions": (), "z_channels": 2, "n_embed": 16, "norm_groups": 4}
    backbone = {"image_size": 4, "in_channels": 2, "out_channels": 2}
    denoiser = tiny_denoiser(backbone=backbone, first_stage=first_stage, condition_map="e-tsdm")
    batch = denoiser.prepare_batch(IMAGES, torch.zeros(6, dtype=torch.long))
    curve = etsdm.lipschitz_curve(denoiser, [batch], [5, 18, 19, 120])
    assert (curve.mean > 0).tolist() == [False, False, True, True]
    assert curve.images == 6


def test_the_noise_is_a_function_of_the_seed(shared):
    one, same, other = (etsdm.lipschitz_curve(shared, IMAGES, [19], seed=seed).mean for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_one_image_has_no_standard_error(shared):
    curve = etsdm.lipschitz_curve(shared, IMAGES[:1], [19, 20])
    assert curve.se.isnan().all()
    assert curve.mean.isfinite().all()


def test_values_are_double_precision_without_a_gradient(shared):
    curve = etsdm.lipschitz_curve(shared, IMAGES, [19], keep_values=True)
    assert all(value.dtype == torch.float64 and not value.requires_grad for value in (curve.t, curve.mean, curve.se, curve.values))


def test_the_first_200_steps_are_measured_by_default(normal_data):
    assert etsdm.lipschitz_curve(normal_data(), IMAGES[:1].double()).t.tolist() == list(range(200))
    few = etsdm.lipschitz_curve(normal_data({"type": "linear", "timesteps": 50}), IMAGES[:1].double())
    assert few.t.tolist() == list(range(49))


def test_any_times_do_also_between_timesteps(normal_data):
    schedule = schedules.create("linear")
    curve = etsdm.lipschitz_curve(normal_data(), IMAGES.double(), [0.25, 7.5, 998], dt=0.5, keep_values=True)
    noise = per_sample_normal(0, "lipschitz/noise", range(6), (1, 8, 8)).double()
    for k, t in enumerate((0.25, 7.5, 998)):
        x = schedule.alpha(t) * IMAGES.double() + schedule.sigma(t) * noise
        expected = (schedule.sigma(t + 0.5) - schedule.sigma(t)) / 0.5 * x.flatten(1).norm(dim=1)
        torch.testing.assert_close(curve.values[k], expected, rtol=1e-6, atol=0)


def test_a_continuous_schedule_has_steps_of_a_thousandth(normal_data):
    # sigma^2 = 1 - exp(-(0.1 t + 9.95 t^2)), the continuous linear schedule.
    def sigma(t):
        return math.sqrt(-math.expm1(-(0.1 * t + 9.95 * t * t)))

    curve = etsdm.lipschitz_curve(normal_data("linear-continuous"), IMAGES.double(), keep_values=True)
    assert curve.t.tolist() == pytest.approx([k / 1000 for k in range(1, 201)])
    assert curve.dt.tolist() == pytest.approx([0.001] * 200)
    noise = per_sample_normal(0, "lipschitz/noise", range(6), (1, 8, 8)).double()
    for t in (0.001, 0.02, 0.2):
        x = math.sqrt(1 - sigma(t) ** 2) * IMAGES.double() + sigma(t) * noise
        expected = (sigma(t + 0.001) - sigma(t)) / 0.001 * x.flatten(1).norm(dim=1)
        # The network gets its time in float32.
        torch.testing.assert_close(curve.values[round(1000 * t) - 1], expected, rtol=1e-4, atol=0)


def test_shared_conditions_of_a_continuous_schedule_jump_at_their_edges(normal_data):
    denoiser = normal_data("linear-continuous", condition_map={"type": "e-tsdm", "t_tilde": 0.1, "n": 5})
    curve = etsdm.lipschitz_curve(denoiser, IMAGES[:2].double())
    jumps = (curve.mean > 0).nonzero().flatten()[:5]
    assert curve.t[jumps].tolist() == pytest.approx([0.019, 0.039, 0.059, 0.079, 0.099])
    assert (curve.mean[99:] > 0).all()


def test_values_can_be_said_per_step_and_per_unit_of_time(normal_data):
    steps = etsdm.lipschitz_curve(normal_data(), IMAGES.double(), [10, 50], keep_values=True)
    times = steps.per_unit_time()
    assert (steps.unit, times.unit) == ("per step", "per unit of time")
    for name in ("mean", "se", "values"):
        torch.testing.assert_close(getattr(times, name), 1000 * getattr(steps, name))
        torch.testing.assert_close(getattr(times.per_step(), name), getattr(steps, name))
    whole = etsdm.lipschitz_curve(normal_data("linear-continuous"), IMAGES.double(), [0.01])
    assert whole.unit == "per unit of time"
    torch.testing.assert_close(whole.per_unit_time().mean, whole.mean, rtol=0, atol=0)
    torch.testing.assert_close(whole.per_step().mean, whole.mean / 1000)
    assert whole.per_step().unit == "per step"


def test_a_schedule_may_last_longer_than_its_unit():
    # EDM's time is sigma itself, here up to 80.
    denoiser = ExactDenoiser(mixture("normal"), schedules.create("edm"), target=targets.create("x0"))
    curve = etsdm.lipschitz_curve(denoiser, IMAGES.double().reshape(-1, 1), [1.0])
    assert (curve.unit, curve.per_unit_time().unit, curve.per_step().unit) == ("per unit of t", "per unit of time", "per step")
    torch.testing.assert_close(curve.per_unit_time().mean, 80 * curve.mean)
    # A step is a 999th of ln(80 / 0.002) in ln(sigma).
    torch.testing.assert_close(curve.per_step().mean, (40_000 ** (1 / 999) - 1) * curve.mean)


def test_other_targets_have_their_own_closed_form():
    # For data N(0, 1) with alpha^2 + sigma^2 = 1: x0* = alpha x, so K = |alpha' - alpha| |x| / dt; and v* = 0.
    schedule, samples = schedules.create("linear"), IMAGES.double().reshape(-1, 1)
    exact = {name: ExactDenoiser(mixture("normal"), schedule, target=targets.create(name)) for name in ("x0", "v")}
    found = {name: etsdm.lipschitz_curve(one, samples, [0, 200], keep_values=True).values for name, one in exact.items()}
    noise = per_sample_normal(0, "lipschitz/noise", range(len(samples)), (1,)).double()
    for k, t in enumerate((0, 200)):
        x = schedule.alpha(t) * samples + schedule.sigma(t) * noise
        torch.testing.assert_close(found["x0"][k], (schedule.alpha(t + 1) - schedule.alpha(t)).abs() * x[:, 0].abs(), rtol=1e-9, atol=1e-15)
    assert found["v"].abs().max() < 1e-15


def test_a_time_whose_neighbour_is_outside_is_refused(shared):
    assert etsdm.lipschitz_curve(shared, IMAGES[:1], [998]).mean.isfinite().all()
    with pytest.raises(
        ValueError,
        match=r"^t: 999 .* 1000, .* 'linear'; give t in \[0, 998\], or a smaller dt$",
    ):
        etsdm.lipschitz_curve(shared, IMAGES[:1], [5, 999])
    with pytest.raises(ValueError, match=r"^t: -1 is outside"):
        etsdm.lipschitz_curve(shared, IMAGES[:1], [-1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": IMAGES[:0]}, "images: none are given; give one or more"),
        ({"images": iter(())}, "images: none are given; give one or more"),
        ({"t": []}, "t: no time is given; give one or more"),
        ({"t": [1001]}, "t: 1001 is outside the times of schedule 'linear'; give t in [0, 999]"),
        ({"dt": 0}, "dt: 0 is no distance in time; give a value above 0, or mode 'derivative' for the limit"),
        ({"dt": -1}, "dt: -1 is no distance inside the schedule's horizon; give a value above 0 and below 1000"),
        ({"dt": float("nan")}, "dt: nan is no distance inside the schedule's horizon; give a value above 0 and below 1000"),
        ({"mode": "shared_x"}, "mode: 'shared_x' is no mode; did you mean 'shared-x'?"),
        ({"mode": "derivative", "dt": 1}, "dt: mode 'derivative' is a limit and has no distance in time; leave it out"),
        ({"batch_size": 0}, "batch_size: 0 is too few; give 1 or more"),
        ({"images": iter(IMAGES), "y": torch.zeros(6)}, "y: found labels beside an iterable of batches; give pairs (images, labels)"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_what_cannot_be_measured_is_refused(shared, options, message):
    arguments = {"images": IMAGES, "t": [3], **options}
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        etsdm.lipschitz_curve(shared, **arguments)
