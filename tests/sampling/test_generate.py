import pytest
import torch
from torch import nn

import etsdm
from etsdm.denoisers.denoiser import Denoiser
from etsdm.errors import PartError, RegistryError
from etsdm.randomness import per_sample_normal
from etsdm.registry import samplers
from etsdm.samplers import DDIM, DDPM
from etsdm.sampling import img2img, invert, resolve_sampler, sample_batches, starting_noise
from etsdm.schedules import Linear
from etsdm.theory import ExactDenoiser, GaussianMixture, mixture

NINE = torch.linspace(-2, 2, 9)[:, None]
STOCHASTIC = DDPM(steps=3)


class Halving(nn.Module):
    """A network whose arithmetic is the same in a batch of any size, to the last bit."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(0.5))

    def forward(self, x, time):
        return self.factor * x


@pytest.fixture(scope="module")
def denoiser(tiny_denoiser):
    return tiny_denoiser(condition_map="e-tsdm", target="v")


@pytest.fixture(scope="module")
def labelled(tiny_denoiser):
    return tiny_denoiser(target="v", backbone={"num_classes": 10})


def close(found, expected):
    # Convolutions of other batch sizes may add up in another order.
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", samplers.names())
@pytest.mark.parametrize("target", ["eps", "v"])
def test_a_sample_is_the_same_alone_and_in_a_batch_to_the_last_bit(tiny_spec, name, target):
    # 3 x 6 x 6 numbers an image, so that images begin anywhere in a processor's vectors.
    parts = {"image_size": 6, "in_channels": 3, "out_channels": 3}
    denoiser = Denoiser(tiny_spec(target=target, backbone=parts), Halving())
    sampler = samplers.create(name, steps=3)
    together = etsdm.sample(denoiser, 64, sampler=sampler, seed=1, batch_size=64)
    assert (together[0] - together[1]).abs().max() > 0.1
    assert torch.equal(etsdm.sample(denoiser, 64, sampler=sampler, seed=1, batch_size=7), together)
    for k in (0, 30, 63):
        assert torch.equal(etsdm.sample(denoiser, 1, sampler=sampler, seed=1, first=k)[0], together[k])


@pytest.mark.parametrize("sampler", [STOCHASTIC, DDIM(steps=3)], ids=str)
def test_a_sample_of_a_network_is_the_same_alone_and_in_a_batch(denoiser, sampler):
    together = etsdm.sample(denoiser, 5, sampler=sampler)
    for k in range(5):
        close(etsdm.sample(denoiser, 1, sampler=sampler, first=k)[0], together[k])


def test_a_sample_keeps_its_label_in_any_batch(labelled):
    y = torch.tensor([3, 1, 4, 1, 5])
    together = etsdm.sample(labelled, 5, sampler=STOCHASTIC, y=y)
    close(etsdm.sample(labelled, 5, sampler=STOCHASTIC, y=y, batch_size=2), together)
    close(etsdm.sample(labelled, 2, sampler=STOCHASTIC, y=y[3:], first=3), together[3:])
    assert (etsdm.sample(labelled, 5, sampler=STOCHASTIC, y=y.flip(0)) - together)[0].abs().max() > 1e-4


def test_small_images_stay_with_their_samples(tiny_denoiser):
    denoiser = tiny_denoiser(target="v", super_resolution={"factor": 2}, backbone={"in_channels": 2})
    small = per_sample_normal(0, "test/small", range(3), (1, 4, 4)).clamp(-1, 1)
    together = etsdm.sample(denoiser, 3, sampler=STOCHASTIC, low_res=small)
    for k in range(3):
        close(etsdm.sample(denoiser, 1, sampler=STOCHASTIC, low_res=small[k : k + 1], first=k)[0], together[k])
    assert (etsdm.sample(denoiser, 3, sampler=STOCHASTIC, low_res=small.flip(0)) - together)[0].abs().max() > 1e-4


def test_what_has_not_a_row_for_each_image_is_refused(labelled):
    with pytest.raises(ValueError, match=r"^y: 3 .* 5 .*; give one for each$"):
        etsdm.sample(labelled, 5, y=torch.tensor([1, 2, 3]))


def test_latents_are_decoded_whatever_the_chunk(latent_denoiser):
    denoiser = latent_denoiser
    images = etsdm.sample(denoiser, 3, sampler=DDIM(steps=2))
    *_, (_, step) = sample_batches(denoiser, DDIM(steps=2), n=3, seed=0, batch_size=3)
    assert images.shape == (3, *denoiser.spec.image_shape)
    assert torch.equal(images, denoiser.decode(step.x).clamp(-1, 1))
    close(etsdm.sample(denoiser, 3, sampler=DDIM(steps=2), chunk=1), images)


@pytest.mark.parametrize(
    ("schedule", "target", "scale"),
    [
        ("linear", "eps", 1.0),  # sigma there is 0.99998, and the originals start from unit noise
        ("zero-terminal-snr", "v", 1.0),
        ("edm", "edm", 80.0),  # sigma_max of Karras et al. 2022
        ("flow", "flow", 1.0),
        ({"type": "ve", "sigma_max": 50}, "eps", 50.0),  # sigma_max of Song et al. 2021 for CIFAR-10
    ],
)
def test_the_start_is_as_noisy_as_the_first_point(tiny_spec, schedule, target, scale):
    denoiser = Denoiser(tiny_spec(schedule=schedule, target=target), Halving())
    sampler = DDIM(steps=2, grid="linspace")
    found = starting_noise(denoiser, sampler, range(2, 4), seed=3)
    torch.testing.assert_close(found, scale * per_sample_normal(3, "sampling/noise", range(2, 4), (1, 8, 8)))


def test_a_later_start_takes_fewer_times_and_the_noise_of_its_own_point(tiny_spec):
    denoiser = Denoiser(tiny_spec(schedule="edm", target="edm"), Halving())
    [first, *_] = [step.t for _, step in sample_batches(denoiser, DDIM(steps=3, grid="linspace"), n=1, seed=0, batch_size=1, start=7.0)]
    assert first == 7
    noise = starting_noise(denoiser, DDIM(steps=3, grid="linspace"), [0], seed=0, start=7.0)
    torch.testing.assert_close(noise, 7 * per_sample_normal(0, "sampling/noise", [0], (1, 8, 8)))


def test_samples_are_a_function_of_the_seed(denoiser):
    one, same, other = (etsdm.sample(denoiser, 2, sampler=STOCHASTIC, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_sampling_leaves_the_global_generator_alone(denoiser):
    state = torch.get_rng_state()
    etsdm.sample(denoiser, 2, sampler=STOCHASTIC)
    assert torch.equal(torch.get_rng_state(), state)


def test_samples_are_single_precision_images_within_the_range(denoiser):
    images = etsdm.sample(denoiser, 2, sampler=DDIM(steps=2, clip_x0=False))
    assert images.shape == (2, 1, 8, 8)
    assert images.dtype == torch.float32
    assert images.abs().max() <= 1
    assert not images.requires_grad


def test_every_step_of_every_batch_comes_with_the_indices_of_its_samples(denoiser):
    steps = list(sample_batches(denoiser, DDIM(steps=2), n=5, seed=0, batch_size=2, first=10))
    assert [(list(indices), step.i, len(step.x)) for indices, step in steps] == [
        ([10, 11], 1, 2),
        ([10, 11], 2, 2),
        ([12, 13], 1, 2),
        ([12, 13], 2, 2),
        ([14], 1, 1),
        ([14], 2, 1),
    ]


def test_a_sampler_can_be_named_with_a_number_of_steps(denoiser):
    assert resolve_sampler("ddim") == DDIM()
    assert resolve_sampler("ddpm", 7) == DDPM(steps=7)
    by_name = etsdm.sample(denoiser, 1, sampler="ddim", steps=3)
    assert torch.equal(by_name, etsdm.sample(denoiser, 1, sampler=DDIM(steps=3)))


def test_a_number_of_steps_replaces_the_samplers_own_and_nothing_else():
    assert resolve_sampler(DDIM(steps=9, eta=0.5, grid="trailing"), 3) == DDIM(steps=3, eta=0.5, grid="trailing")
    assert resolve_sampler(DDIM(steps=9)) == DDIM(steps=9)


@pytest.mark.parametrize(("name", "value"), [("n", 0), ("n", -2), ("batch_size", 0)])
def test_no_images_are_refused(denoiser, name, value):
    with pytest.raises(ValueError, match=rf"^{name}: {value} .*; give 1 or more$"):
        etsdm.sample(denoiser, **{name: value})


def test_no_steps_are_refused(denoiser):
    with pytest.raises(RegistryError, match=r"^sampler 'ddim': .* 0; give a value above 0$"):
        etsdm.sample(denoiser, 1, steps=0)
    with pytest.raises(PartError, match=r"^steps: 0 .* 'ddim'; give 1 or more$"):
        etsdm.sample(denoiser, 1, sampler=DDIM(), steps=0)


def test_more_steps_than_timesteps_are_refused(denoiser):
    with pytest.raises(ValueError, match=r"^steps: 1001 .* 1000 .*; give 1 to 1000$"):
        etsdm.sample(denoiser, 1, steps=1001)


def test_an_unknown_sampler_is_refused_with_near_names(denoiser):
    with pytest.raises(RegistryError, match=r"^unknown sampler 'dimm'; did you mean 'ddim'"):
        etsdm.sample(denoiser, 1, sampler="dimm")


def test_data_of_an_exact_denoiser_are_drawn_wherever_they_lie():
    data = GaussianMixture([[3.0, -5.0]], [0.2], [1.0])
    drawn = etsdm.sample(ExactDenoiser(data, Linear()), 64, sampler="heun")
    assert drawn.shape == (64, 2)
    torch.testing.assert_close(drawn.mean(0), torch.tensor([3.0, -5.0]), rtol=0, atol=0.1)  # four standard errors


@pytest.mark.parametrize("call", [etsdm.sample, img2img, invert], ids=lambda call: call.__name__)
def test_a_sampler_may_be_a_mapping(call):
    denoiser = ExactDenoiser(mixture("m1"), Linear())
    arguments = {etsdm.sample: {"n": 3}, img2img: {"images": NINE, "start": 500}, invert: {"images": NINE}}[call]
    mapping, part = {"type": "ddim", "grid": "trailing"}, DDIM(grid="trailing", steps=4)
    assert torch.equal(call(denoiser, sampler=mapping, steps=4, **arguments), call(denoiser, sampler=part, **arguments))
    with pytest.raises(RegistryError, match=r"^sampler 'ddim': eta: .*7.*"):
        call(denoiser, sampler={"type": "ddim", "eta": 7}, **arguments)
    with pytest.raises(RegistryError, match="needs `type`"):
        call(denoiser, sampler={"steps": 7}, **arguments)
    with pytest.raises(RegistryError, match="give the name of a sampler or a mapping"):
        call(denoiser, sampler=None, **arguments)
