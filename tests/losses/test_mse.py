import pytest
import torch
from doubles import RecordingNetwork

from etsdm.condition_maps import ETSDM
from etsdm.denoisers.denoiser import Denoiser
from etsdm.losses import MSE
from etsdm.randomness import per_sample_normal
from etsdm.registry import targets
from etsdm.schedules import CosineContinuous, Linear
from etsdm.targets import EDM, X0, Eps, Score, V

T = torch.tensor([0.0, 59.0, 700.0], dtype=torch.float64)
IMAGE = per_sample_normal(0, "test/x0", range(3), (1, 2, 2)).clamp(-1, 1)
NOISE = per_sample_normal(0, "test/eps", range(3), (1, 2, 2))
every_target = pytest.mark.parametrize("target", list(targets))
# Conditions and, with them, noise levels are those of the last multiple of 20.
LEFT_EDGES = ETSDM(t_tilde=1000, n=50, share="both")


@pytest.fixture
def doubling(tiny_spec):
    """Makes a denoiser whose network gives twice its input, or a fixed output."""

    def make(output=None, **parts):
        network = RecordingNetwork(scale=2.0) if output is None else RecordingNetwork(lambda x: output)
        return Denoiser(tiny_spec(**parts), network)

    return make


def coefficients(t=T):
    return Linear().alpha(t).reshape(-1, 1, 1, 1), Linear().sigma(t).reshape(-1, 1, 1, 1)


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6, check_dtype=False)


def test_one_image_of_one_pixel_by_hand(doubling):
    # Linear, t = 0: alpha^2 = 0.9999, sigma = 0.01. x = alpha 0.5 + 0.01 (-1) = 0.489975, and (2 x + 1)^2 = 3.920201.
    x0, eps = torch.full((1, 1, 1, 1), 0.5), torch.full((1, 1, 1, 1), -1.0)
    found = MSE().per_image(doubling(), x0, torch.zeros(1, dtype=torch.float64), eps)
    assert found.tolist() == pytest.approx([3.920201], abs=2e-6)


@pytest.mark.parametrize("condition_map", ["identity", "e-tsdm"])
def test_the_loss_is_the_mean_over_the_elements_of_an_image(doubling, condition_map):
    alpha, sigma = coefficients()
    x, r = alpha * IMAGE + sigma * NOISE, (sigma**2 + 0.25 * alpha**2).sqrt()
    # Input and ideal output of the network.
    truth = {
        "eps": (x, NOISE),
        "x0": (x, IMAGE),
        "v": (x, alpha * NOISE - sigma * IMAGE),
        "score": (x, -NOISE / sigma),
        "flow": (x, NOISE - IMAGE),
        "edm": (x / r, (2 * sigma * IMAGE - 0.5 * alpha * NOISE) / r),
        "edm-v": (x / r, (0.5 * alpha * NOISE - 2 * sigma * IMAGE) / r),
    }
    assert set(truth) == set(targets)
    for target, (given, ideal) in truth.items():
        found = MSE().per_image(doubling(target=target, condition_map=condition_map), IMAGE, T, NOISE)
        close(found, (2 * given - ideal).square().mean((1, 2, 3)))


@every_target
@pytest.mark.parametrize("space", list(targets))
def test_the_ideal_output_has_no_loss_in_any_space(doubling, target, space):
    denoiser = doubling(targets.create(target).training_target(IMAGE, NOISE, *coefficients()), target=target)
    assert MSE(space=space).per_image(denoiser, IMAGE, T, NOISE).tolist() == [0, 0, 0]


@every_target
@pytest.mark.parametrize("space", [Eps(), V(), X0(), EDM(sigma_data=0.7), Score()], ids=repr)
def test_the_error_is_that_of_the_prediction_in_the_space(doubling, target, space):
    # By way of the prediction's x0 and eps, in double precision.
    denoiser, (alpha, sigma), image, noise = doubling(target=target), coefficients(), IMAGE.double(), NOISE.double()
    denoiser.backbone.double()
    found = MSE(space=space).per_image(denoiser, image, T, noise)
    prediction = denoiser.predict(alpha * image + sigma * noise, T)
    pairs = {
        "eps": (prediction.eps, noise),
        "v": (alpha * prediction.eps - sigma * prediction.x0, alpha * noise - sigma * image),
        "x0": (prediction.x0, image),
        "score": (-prediction.eps / sigma, -noise / sigma),
    }
    if space == EDM(sigma_data=0.7):
        # Karras et al. 2022, Eq. 8 with lambda = 1 / c_out^2: (s^2 + sd^2) / (s sd)^2 ||D - x0||^2 at s = sigma / alpha.
        s2 = (sigma / alpha) ** 2
        expected = ((s2 + 0.49) / (s2 * 0.49)) * (prediction.x0 - image) ** 2
    else:
        expected = (pairs[space.type_name][0] - pairs[space.type_name][1]) ** 2
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected.mean((1, 2, 3)), rtol=1e-9, atol=0)


@every_target
def test_the_loss_of_edm_is_the_published_one(doubling, target):
    # On EDM's own schedule, where alpha = 1 and t = sigma: lambda(sigma) ||D - x0||^2, lambda = (sigma^2 + sd^2) / (sigma sd)^2.
    denoiser = doubling(target=target, schedule="edm")
    denoiser.backbone.double()
    sigma, image, noise = torch.tensor([0.01, 0.5, 40.0], dtype=torch.float64), IMAGE.double(), NOISE.double()
    found = MSE(space=EDM()).per_image(denoiser, image, sigma, noise)
    error = denoiser.predict(image + sigma.reshape(-1, 1, 1, 1) * noise, sigma).x0 - image
    weight = (sigma**2 + 0.25) / (sigma * 0.5) ** 2
    torch.testing.assert_close(found, weight * error.square().mean((1, 2, 3)), rtol=1e-9, atol=0)


def test_an_error_of_noise_counts_as_one_of_the_image_times_the_noise_to_signal_ratio(doubling):
    in_eps, in_x0 = (MSE(space=space).per_image(doubling(), IMAGE, T, NOISE) for space in ("eps", "x0"))
    # (sigma / alpha)^2 at t = 0 is 1e-4 / 0.9999; with guided-diffusion's alpha_bar at 999 it would be 24777.
    assert (in_x0 / in_eps)[0].item() == pytest.approx(1e-4 / 0.9999, rel=1e-5)


@every_target
def test_the_space_is_that_of_the_target_by_default(doubling, target):
    denoiser = doubling(target=target)
    assert torch.equal(MSE().per_image(denoiser, IMAGE, T, NOISE), MSE(space=target).per_image(denoiser, IMAGE, T, NOISE))


@pytest.mark.parametrize("space", ["eps", "v", "x0", "flow", "edm"])
def test_the_loss_of_a_velocity_network_is_finite_at_both_ends(doubling, space):
    # No noise at 0, no signal at 1.
    t = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    found = MSE(space=space).per_image(doubling(target="v", schedule=CosineContinuous()), IMAGE, t, NOISE)
    assert found.isfinite().all()


def test_noise_prediction_is_trained_without_signal_only_where_that_is_allowed(doubling):
    last = torch.ones(3, dtype=torch.float64)
    denoiser = doubling(target=Eps(allow_eps_at_zero_snr=True), schedule=CosineContinuous())
    # x = eps there, and the network's output is 2 x.
    close(MSE().per_image(denoiser, IMAGE, last, NOISE), NOISE.square().mean((1, 2, 3)))
    denoiser.target = Eps()
    with pytest.raises(ValueError, match=r"^target: 'eps' .* alpha = 0"):
        MSE().per_image(denoiser, IMAGE, last, NOISE)


def test_the_image_is_noised_at_the_true_time_unless_the_map_shares_the_level(doubling):
    shares_condition, shares_both = doubling(condition_map=ETSDM()), doubling(condition_map=LEFT_EDGES)
    true, shared = coefficients(), coefficients(torch.tensor([0.0, 40.0, 700.0], dtype=torch.float64))
    for denoiser, (alpha, sigma) in ((shares_condition, true), (shares_both, shared)):
        found = MSE().per_image(denoiser, IMAGE, T, NOISE)
        x = alpha * IMAGE + sigma * NOISE
        assert denoiser.backbone.times[-1].tolist() == [0, 40, 700]
        close(denoiser.backbone.inputs[-1], x)
        close(found, (2 * x - NOISE).square().mean((1, 2, 3)))


def test_target_space_and_weight_are_those_of_the_shared_level(doubling):
    # In the space x0 the weight is (sigma / alpha)^2 at 40, not at the drawn 59.
    denoiser = doubling(condition_map=LEFT_EDGES)
    ratio = MSE(space="x0").per_image(denoiser, IMAGE, T, NOISE) / MSE().per_image(denoiser, IMAGE, T, NOISE)
    alpha, sigma = coefficients(torch.tensor([0.0, 40.0, 700.0], dtype=torch.float64))
    close(ratio, (sigma / alpha).square().flatten())


def test_the_loss_has_a_gradient_for_the_network(doubling):
    denoiser = doubling()
    MSE().per_image(denoiser, IMAGE, T, NOISE).mean().backward()
    alpha, sigma = coefficients()
    x = alpha * IMAGE + sigma * NOISE
    # d/ds mean (s x - eps)^2 = 2 mean (s x - eps) x at s = 2.
    close(denoiser.backbone.scale.grad, 2 * ((2 * x - NOISE) * x).mean())


def test_the_loss_of_an_image_does_not_depend_on_the_others(doubling):
    together = MSE().per_image(doubling(), IMAGE, T, NOISE)
    for k in range(3):
        rows = slice(k, k + 1)
        assert torch.equal(MSE().per_image(doubling(), IMAGE[rows], T[rows], NOISE[rows]), together[rows])


@pytest.mark.parametrize("images", [torch.float32, torch.float16])
def test_an_output_in_half_precision_is_squared_in_single(doubling, images):
    # 300^2 is beyond the largest number of half precision, 65504.
    denoiser = doubling(torch.full_like(IMAGE, 300).half())
    found = MSE().per_image(denoiser, IMAGE.to(images), T, torch.zeros_like(IMAGE, dtype=images))
    assert found.dtype == torch.float32
    assert found.tolist() == [90000, 90000, 90000]


def test_labels_reach_the_network(tiny_denoiser):
    denoiser = tiny_denoiser(backbone={"num_classes": 10})
    x0, eps = per_sample_normal(0, "test/x0", range(3), (1, 8, 8)), per_sample_normal(0, "test/eps", range(3), (1, 8, 8))
    one, other = (MSE().per_image(denoiser, x0, T, eps, y=torch.full((3,), label)) for label in (1, 2))
    assert (one != other).all()


def test_a_loss_comes_back_equal_from_its_dump():
    loss = MSE(space="x0", weighting="min-snr")
    assert loss.model_dump() == {"type": "mse", "space": {"type": "x0"}, "weighting": {"type": "min-snr", "gamma": 5.0}}
    assert MSE.model_validate(loss.model_dump()) == loss
