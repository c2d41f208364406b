"""Every target against the linear system x = alpha x0 + sigma eps, F = k_x0 x0 + k_eps eps, in 50 digits and on random images."""

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from etsdm.randomness import generator
from etsdm.registry import schedules, targets
from etsdm.targets import EDM, EDMV, X0, Eps, Flow, Score, V

VARIANTS = [Eps(), Eps(scale_input=True), Score(), Score(scaled=True), V(), X0(), EDM(), EDM(sigma_data=1.7), EDMV(sigma_data=1.7), Flow()]
every_target = pytest.mark.parametrize("target", VARIANTS, ids=repr)
IMAGE, NOISE = torch.randn(2, 3, 1, 4, 4, generator=generator(0, "test/targets"), dtype=torch.float64)

ANGLES = st.floats(0, float(torch.pi / 2)).map(lambda angle: (numbers(angle).cos(), numbers(angle).sin()))
EXPONENTS = st.floats(-12, 4)
# Variance-preserving (also very near its ends), exploding, and linear.
LEVELS = st.one_of(
    ANGLES,
    EXPONENTS.map(lambda k: (torch.rsqrt(numbers(1 + 10 ** (2 * k))), numbers(10**k) * torch.rsqrt(numbers(1 + 10 ** (2 * k))))),
    EXPONENTS.map(lambda k: (numbers(1), numbers(10**k))),
    st.floats(0, 1).map(lambda t: (numbers(1 - t), numbers(t))),
)
# x0 and eps of every target are defined inside the ends.
INSIDE = LEVELS.filter(lambda level: level[0].item() > 1e-13 and level[1].item() > 1e-13)
STANDARD = [name for name in schedules if not any(field.is_required() for field in schedules[name].model_fields.values())]


def numbers(*values):
    return torch.tensor(values, dtype=torch.float64)


def exact_mixture(target, alpha, sigma):
    """(k_x0, k_eps) in 50 digits, from the definitions in the articles."""
    if isinstance(target, EDM):
        # Karras et al. 2022, table 1, on y = x0 + s eps: F = (x0 - c_skip y) / c_out.
        s, sd = sigma / alpha, mpmath.mpf(target.sigma_data)
        c_skip, c_out = sd**2 / (s**2 + sd**2), s * sd / mpmath.sqrt(s**2 + sd**2)
        return (1 - c_skip) / c_out, -c_skip * s / c_out
    if isinstance(target, EDMV):
        # v of x0 / sd and eps (Salimans and Ho 2022) at the signal sd alpha, scaled to alpha^2 + sigma^2 = 1.
        signal = target.sigma_data * alpha
        norm = mpmath.sqrt(signal**2 + sigma**2)
        return -sigma / norm / target.sigma_data, signal / norm
    if isinstance(target, Score):
        return 0, -1 if target.scaled else -1 / sigma
    return {"eps": (0, 1), "v": (-sigma, alpha), "x0": (1, 0), "flow": (-1, 1)}[target.type_name]


def close_to_terms(found, expected, *terms):
    """Within the roundings of a sum of these terms, whatever of them cancels; 1e-14 is 45 roundings."""
    room = 1e-14 * sum(term.abs() for term in terms) + 1e-300
    assert ((found - expected).abs() <= room).all()


def test_every_registered_target_is_tested_here():
    assert {target.type_name for target in VARIANTS} == set(targets)


@every_target
@settings(max_examples=50)
@given(level=INSIDE)
def test_coefficients_solve_the_linear_system_in_fifty_digits(target, level):
    with mpmath.workdps(50):
        alpha, sigma = (mpmath.mpf(value.item()) for value in level)
        solution = mpmath.matrix([[alpha, sigma], exact_mixture(target, alpha, sigma)]) ** -1
        known = [float(solution[row, column]) for row in range(2) for column in range(2)]
    found = target.coefficients(*level)[1:]
    # The 50 digits leave a 0 as some 1e-38 or less, of numbers up to 1e12.
    assert [value.item() for value in found] == pytest.approx(known, rel=2e-15, abs=1e-30)


@every_target
@settings(max_examples=50)
@given(level=INSIDE)
def test_image_and_noise_come_back_from_the_ideal_output(target, level):
    alpha, sigma = level
    x, output = alpha * IMAGE + sigma * NOISE, target.training_target(IMAGE, NOISE, alpha, sigma)
    c = target.coefficients(alpha, sigma)
    close_to_terms(c.c_skip * x + c.c_out * output, IMAGE, c.c_skip * alpha * IMAGE, c.c_skip * sigma * NOISE, c.c_out * output)
    close_to_terms(c.e_skip * x + c.e_out * output, NOISE, c.e_skip * alpha * IMAGE, c.e_skip * sigma * NOISE, c.e_out * output)


@pytest.mark.parametrize("schedule", STANDARD)
def test_conversions_are_exact_on_every_schedule(schedule):
    schedule = schedules.create(schedule)
    low, high = schedule.domain
    t = low + (high - low) * torch.linspace(0.01, 0.95, 30, dtype=torch.float64)
    alpha, sigma = (value.reshape(-1, 1, 1, 1) for value in schedule.alpha_sigma(t))
    image, noise = torch.randn(2, 30, 1, 4, 4, generator=generator(1, "test/targets"), dtype=torch.float64)
    x = alpha * image + sigma * noise
    for target in VARIANTS:
        c, output = target.coefficients(alpha, sigma), target.training_target(image, noise, alpha, sigma)
        x0, eps = c.c_skip * x + c.c_out * output, c.e_skip * x + c.e_out * output
        # An x0 that is divided by alpha, or an eps by sigma, has the roundings of x as many times over.
        assert ((x0 - image).abs() * alpha.clamp(max=1)).max() < 1e-12, target
        assert ((eps - noise).abs() * sigma.clamp(max=1)).max() < 1e-12, target
        assert (alpha * x0 + sigma * eps - x).abs().max() < 1e-12 * max(1, sigma.max().item()), target


@pytest.mark.parametrize("schedule", STANDARD)
def test_coefficients_are_numbers_on_the_whole_of_every_schedule(schedule):
    schedule = schedules.create(schedule)
    low, high = schedule.domain
    t = low + (high - low) * torch.linspace(0, 1, 101, dtype=torch.float64)
    alpha, sigma = schedule.alpha_sigma(t.round() if schedule.is_discrete else t)
    for target in VARIANTS:
        inverse = torch.stack(target.inverse(alpha, sigma))
        assert not inverse.isnan().any(), target
        # Infinite only where undefined: x0 from the noise without signal, eps from the image without noise.
        undefined = (target.needs_signal & (alpha == 0)) | (isinstance(target, X0) & (sigma == 0))
        assert inverse[:, ~undefined].isfinite().all(), target


@every_target
@settings(max_examples=50)
@given(level=LEVELS)
def test_the_scaled_input_has_unit_variance_where_a_target_scales_it(target, level):
    alpha, sigma = level
    spread = {Eps(scale_input=True): 1.0, EDM(): 0.5, EDM(sigma_data=1.7): 1.7, EDMV(sigma_data=1.7): 1.7}.get(target)  # of the data
    expected = 1.0 if spread is None else (spread**2 * alpha**2 + sigma**2).rsqrt().item()
    assert target.inverse(alpha, sigma).c_in.item() == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("target", VARIANTS, ids=repr)
def test_the_image_is_known_where_there_is_no_noise(target):
    c = target.coefficients(numbers(1), numbers(0))
    # At sigma = 0 x is x0; the output is x0, or has no weight.
    output = 1 if isinstance(target, X0) else 7
    assert (c.c_skip + c.c_out * output).item() == 1
    assert c.c_out.item() == (1 if isinstance(target, X0) else 0)


@pytest.mark.parametrize("target", [target for target in VARIANTS if not target.needs_signal], ids=repr)
def test_image_and_noise_are_known_where_there_is_no_signal(target):
    x, x0 = 0.7, -0.3
    alpha, sigma = numbers(0), numbers(1)
    output = target.training_target(numbers(x0), numbers(x), alpha, sigma)
    c = target.coefficients(alpha, sigma)
    torch.testing.assert_close(c.c_skip * x + c.c_out * output, numbers(x0), rtol=0, atol=1e-15)
    torch.testing.assert_close(c.e_skip * x + c.e_out * output, numbers(x), rtol=0, atol=1e-15)


@every_target
@settings(max_examples=50)
@given(space=st.sampled_from(VARIANTS), level=INSIDE)
def test_an_error_of_the_output_is_the_error_that_other_spaces_see(target, space, level):
    alpha, sigma = level
    factor = target.error_factor(space, alpha, sigma)
    c = target.coefficients(alpha, sigma)
    # Two outputs that differ by 1, as outputs of the other space for x = 0: no term cancels but those of the factor itself.
    seen = space.training_target(c.c_out, c.e_out, alpha, sigma)
    assert factor.item() == pytest.approx(seen.item(), rel=1e-14)
    assert (factor * space.error_factor(target, alpha, sigma)).item() == pytest.approx(1, rel=1e-14)


@every_target
@pytest.mark.parametrize("level", [(1.0, 0.0), (0.0, 1.0)], ids=["no noise", "no signal"])
def test_an_error_is_itself_in_its_own_space_also_at_the_ends(target, level):
    assert target.error_factor(target, *map(numbers, level)).item() == 1


def test_errors_of_noise_and_image_are_each_others_by_the_noise_to_signal_ratio():
    alpha, sigma = numbers(0.8, 0.6), numbers(0.6, 0.8)
    assert Eps().error_factor(X0(), alpha, sigma).tolist() == pytest.approx([-0.75, -4 / 3])  # x0 = (x - sigma eps) / alpha
    assert X0().error_factor(Eps(), alpha, sigma).tolist() == pytest.approx([-4 / 3, -0.75])  # eps = (x - alpha x0) / sigma
    assert V().error_factor(X0(), alpha, sigma).tolist() == pytest.approx([-0.6, -0.8])  # x0 = alpha x - sigma v
    assert V().error_factor(Eps(), alpha, sigma).tolist() == pytest.approx([0.8, 0.6])  # eps = sigma x + alpha v


def test_noise_prediction_is_of_no_error_for_itself_where_it_says_nothing_of_the_image():
    assert Eps().error_factor(Score(scaled=True), numbers(0), numbers(1)).item() == -1
    assert X0().error_factor(V(), numbers(0), numbers(1)).item() == -1  # v = -x0 at alpha = 0


@every_target
def test_coefficients_have_the_shape_of_alpha(target):
    alpha = torch.full((5, 1, 1, 1), 0.6, dtype=torch.float64)
    for value in (*target.coefficients(alpha, (1 - alpha**2).sqrt()), target.error_factor(V(), alpha, alpha)):
        assert value.shape == alpha.shape
        assert value.dtype == torch.float64


@every_target
def test_the_ideal_output_has_the_dtype_of_the_images(target):
    x0 = torch.zeros(2, 1, 4, 4)
    assert target.training_target(x0, x0, numbers(0.8), numbers(0.6)).dtype == torch.float32


@every_target
def test_a_target_comes_back_equal_from_its_dump(target):
    assert targets.parse(target.model_dump(mode="json")) == target


@every_target
def test_coefficients_compile_without_a_break(target):
    compiled = torch.compile(target.coefficients, fullgraph=True, backend="eager")
    level = numbers(0.8, 0.6), numbers(0.6, 0.8)
    for found, known in zip(compiled(*level), target.coefficients(*level), strict=True):
        assert torch.equal(found, known)
