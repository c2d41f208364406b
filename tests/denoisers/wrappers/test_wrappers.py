import pytest
import torch

import etsdm
from etsdm.denoisers.protocol import DenoiserLike
from etsdm.denoisers.wrappers import ClassifierFreeGuidance, DenoiserWrapper, FixedLabels, FixedLowRes, Inpainting, ZeroSNRStart
from etsdm.randomness import per_sample_normal
from etsdm.samplers import DDIM, DDPM
from etsdm.schedules import LinearContinuous, ZeroTerminal
from etsdm.targets import V
from etsdm.theory import ExactDenoiser, mixture

X = per_sample_normal(0, "test/x", range(3), (1, 8, 8))
Y = torch.tensor([3, 1, 4])
TIMES = torch.tensor([7.0, 59.0, 400.0], dtype=torch.float64)


@pytest.fixture(scope="module")
def labelled(tiny_denoiser):
    return tiny_denoiser(condition_map="e-tsdm", backbone={"num_classes": 10, "out_channels": 2})


@pytest.fixture(scope="module")
def upscaler(tiny_denoiser):
    return tiny_denoiser(backbone={"in_channels": 2}, super_resolution={"factor": 2})


def every_wrapper(denoiser):
    x = torch.zeros(1, *denoiser.shape)
    return {
        "none": DenoiserWrapper(denoiser),
        "labels": FixedLabels(denoiser, 3),
        "guidance": ClassifierFreeGuidance(denoiser, 2.0),
        "first step": ZeroSNRStart(denoiser, ExactDenoiser(mixture("m1"), denoiser.schedule, target=V())),
        "inpainting": Inpainting(denoiser, x, x == 0, x),
        "several": Inpainting(FixedLabels(ClassifierFreeGuidance(denoiser, 2.0), 3), x, x == 0, x),
    }


WRAPPERS = ("none", "labels", "guidance", "first step", "inpainting", "several")


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_wrapper_is_a_denoiser_with_the_map_and_the_schedule_of_the_one_inside(labelled, name):
    wrapper = every_wrapper(labelled)[name]
    assert isinstance(wrapper, DenoiserLike)
    assert wrapper.schedule is labelled.schedule
    assert wrapper.condition_map is labelled.condition_map
    assert (wrapper.shape, wrapper.device, wrapper.bounded) == ((1, 8, 8), torch.device("cpu"), True)
    assert wrapper.condition(TIMES).tolist() == [0, 40, 400]
    assert torch.equal(wrapper.noising_time(TIMES), TIMES)
    assert torch.equal(wrapper.decode(X), X.clamp(-1, 1))


@pytest.mark.parametrize("name", WRAPPERS)
@pytest.mark.parametrize("t", [59.0, TIMES], ids=["one time", "a time for each"])
def test_output_and_prediction_of_a_wrapper_agree(labelled, name, t):
    wrapper = every_wrapper(labelled)[name]
    cond = {"y": Y} if wrapper.num_classes else {}
    found = wrapper.predict(X, t, **cond)
    torch.testing.assert_close(found.output, wrapper.output(X, t, **cond))
    times = torch.as_tensor(t, dtype=torch.float64)
    torch.testing.assert_close(found.output, wrapper.output(X, t, condition_t=times, **cond))
    alpha, sigma = (level.float().reshape(-1, 1, 1, 1) for level in labelled.schedule.alpha_sigma(times))
    torch.testing.assert_close(alpha * found.x0 + sigma * found.eps, found.x, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(wrapper.target.training_target(found.x0, found.eps, alpha, sigma), found.output, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_learned_variance_passes_through_a_wrapper(labelled, name):
    wrapper = every_wrapper(labelled)[name]
    y = torch.full((3,), 3)
    cond = {"y": y} if wrapper.num_classes else {}
    whole = name in ("inpainting", "several")  # which know the whole image, and that it is 0
    expected = labelled.predict(torch.zeros_like(X) if whole else X, 59.0, y=y).variance_logit
    torch.testing.assert_close(wrapper.predict(X, 59.0, **cond).variance_logit, expected)


@pytest.mark.parametrize("name", WRAPPERS)
def test_the_condition_that_is_told_in_place_of_the_true_one_reaches_the_network(labelled, name):
    wrapper = every_wrapper(labelled)[name]
    cond = {"y": Y} if wrapper.num_classes else {}
    shared, far = (wrapper.output(X, TIMES, condition_t=TIMES + shift, **cond) for shift in (-5, 300))
    plain = wrapper.output(X, TIMES, **cond)
    torch.testing.assert_close(shared[:2], plain[:2])  # 2 is in the sub-interval of 7, and 54 in that of 59
    if name not in ("inpainting", "several"):  # which know the whole image here
        assert (far - plain).abs().max() > 1e-3


def test_fixed_labels_are_those_that_could_be_given(labelled):
    for y in (Y, 4, torch.tensor([4])):
        rows = torch.as_tensor(y).reshape(-1).expand(3)
        assert torch.equal(FixedLabels(labelled, y).predict(X, 59.0).x0, labelled.predict(X, 59.0, y=rows).x0)
    images = etsdm.sample(FixedLabels(labelled, 4), 3, sampler=DDIM(steps=2), batch_size=2)
    torch.testing.assert_close(images, etsdm.sample(labelled, 3, sampler=DDIM(steps=2), y=torch.full((3,), 4)))
    assert FixedLabels(labelled, 4).num_classes is None


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (10, "^y: 10 is none of 10 classes; give 0 to 9$"),
        (torch.tensor([3, -1]), "^y: -1 is none of 10 classes; give 0 to 9$"),
    ],
    ids=str,
)
def test_labels_beyond_the_classes_are_refused(labelled, y, message):
    with pytest.raises(ValueError, match=message):
        FixedLabels(labelled, y)


def test_labels_without_classes_are_refused(tiny_denoiser):
    with pytest.raises(ValueError, match=r"^denoiser: .*; give a class-conditional one, or leave the labels out$"):
        FixedLabels(tiny_denoiser(), 1)


def test_labels_that_do_not_fit_the_batch_or_come_twice_are_refused(labelled):
    with pytest.raises(ValueError, match=r"^y: .* 2 .* 3; give one, or one for each image$"):
        FixedLabels(labelled, Y[:2]).predict(X, 59.0)
    with pytest.raises(ValueError, match=r"^y: .*; leave it out$"):
        FixedLabels(labelled, Y).predict(X, 59.0, y=Y)


def test_fixed_small_images_are_those_that_could_be_given(upscaler):
    low_res = X[:, :, :4, :4].clamp(-1, 1)
    found = FixedLowRes(upscaler, low_res).predict(X, 59.0)
    assert torch.equal(found.x0, upscaler.predict(X, 59.0, low_res=low_res).x0)
    images = etsdm.sample(FixedLowRes(upscaler, low_res[:1]), 3, sampler=DDPM(steps=2), batch_size=2)
    torch.testing.assert_close(images, etsdm.sample(upscaler, 3, sampler=DDPM(steps=2), low_res=low_res[:1].expand(3, -1, -1, -1)))


def test_a_wrapper_decodes_what_was_denoised(latent_denoiser):
    denoiser = latent_denoiser
    assert torch.equal(DenoiserWrapper(denoiser).decode(X, chunk=2), denoiser.decode(X, chunk=2))
    assert DenoiserWrapper(denoiser).decode(X).shape == (3, *denoiser.spec.image_shape)
    assert not DenoiserWrapper(denoiser).bounded
    exact = ExactDenoiser(mixture("m1"), LinearContinuous())
    assert torch.equal(DenoiserWrapper(exact).decode(X), X)


def test_wrappers_of_an_exact_denoiser_sample():
    denoiser = ExactDenoiser(mixture("m2"), ZeroTerminal(), target=V())
    noise = per_sample_normal(0, "test/noise", range(3), (2,)).double()
    *_, plain = DDIM(steps=5, grid="trailing").trajectory(denoiser, noise)
    *_, wrapped = DDIM(steps=5, grid="trailing").trajectory(DenoiserWrapper(DenoiserWrapper(denoiser)), noise)
    assert torch.equal(plain.x, wrapped.x)
