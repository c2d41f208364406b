import pytest
import torch

import etsdm
from etsdm.denoisers.prediction import Prediction
from etsdm.denoisers.wrappers import ClassifierFreeGuidance, DenoiserWrapper, FixedLabels, Inpainting
from etsdm.randomness import per_sample_normal
from etsdm.samplers import DDIM, DDPM
from etsdm.schedules import Linear, LinearContinuous
from etsdm.targets import V
from etsdm.theory import ExactDenoiser, GaussianMixture

X = per_sample_normal(0, "test/x", range(3), (1, 8, 8))
Y = torch.tensor([3, 1, 4])
TIMES = torch.tensor([7.0, 59.0, 400.0], dtype=torch.float64)
MEANS = (1.5, -0.5, 0.25)  # of two classes and of the null label


class Gaussians:
    """The exact denoiser of N(mean of the label, 0.4^2)."""

    schedule = LinearContinuous()
    target = V()
    bounded = learns_variance = False
    num_classes = 3
    shape = (1,)
    device = torch.device("cpu")

    def __init__(self):
        self.of = [ExactDenoiser(GaussianMixture([[mean]], [0.4], [1.0]), self.schedule, target=self.target) for mean in MEANS]
        self.condition_map, self.time_input = self.of[0].condition_map, self.of[0].time_input
        self.condition, self.noising_time, self.decode = self.of[0].condition, self.of[0].noising_time, self.of[0].decode

    def output(self, x, t, *, condition_t=None, y):
        return torch.cat([self.of[label].output(row[None], t, condition_t=condition_t) for row, label in zip(x, y.tolist(), strict=True)])

    def predict(self, x, t, y):
        return Prediction.from_output(self, x, t, self.output(x, t, y=y))


@pytest.fixture(scope="module")
def labelled(tiny_denoiser):
    """Ten classes and a null label, the last."""
    return tiny_denoiser(condition_map="e-tsdm", target="v", backbone={"num_classes": 11, "out_channels": 2})


@pytest.fixture
def batches(labelled):
    """The batch sizes of the network's passes."""
    sizes = []
    hook = labelled.backbone.register_forward_hook(lambda network, given, output: sizes.append(len(output)))
    yield sizes
    hook.remove()


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 3.0])
def test_guided_gaussians_of_one_width_are_gaussians_further_apart(scale):
    # The score of N(a, s^2) plus w times that of N(b, s^2) less it is the score of N(a + w (b - a), s^2) (in closed form).
    noise = per_sample_normal(0, "test/noise", range(4), (1,)).double()
    y = torch.tensor([0, 1, 0, 1])
    *_, found = DDIM(steps=10, grid="linspace").trajectory(ClassifierFreeGuidance(Gaussians(), scale), noise, y=y)
    for row in range(4):
        mean = MEANS[2] + scale * (MEANS[y[row]] - MEANS[2])
        shifted = ExactDenoiser(GaussianMixture([[mean]], [0.4], [1.0]), LinearContinuous())
        *_, expected = DDIM(steps=10, grid="linspace").trajectory(shifted, noise[row : row + 1])
        torch.testing.assert_close(found.x[row : row + 1], expected.x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("t", [59.0, TIMES], ids=["one time", "a time for each"])
def test_both_outputs_come_from_one_call(labelled, batches, t):
    conditional, unconditional = (labelled.predict(X, t, y=y) for y in (Y, torch.full((3,), 10)))
    batches.clear()
    found = ClassifierFreeGuidance(labelled, 2.5).predict(X, t, y=Y)
    assert batches == [6]
    for space in ("output", "x0", "eps", "v", "score"):
        one, other = getattr(conditional, space), getattr(unconditional, space)
        torch.testing.assert_close(getattr(found, space), other + 2.5 * (one - other), rtol=1e-4, atol=1e-4)
    close(found.variance_logit, conditional.variance_logit)


def test_a_scale_of_one_is_the_conditional_output_alone(labelled, batches):
    guided = ClassifierFreeGuidance(labelled, 1.0)
    found = guided.predict(X, 59.0, y=Y)
    assert batches == [3]
    assert torch.equal(found.x0, labelled.predict(X, 59.0, y=Y).x0)


def test_guidance_acts_in_an_interval_of_noise_levels(labelled, batches):
    level = (Linear().sigma(TIMES) / Linear().alpha(TIMES)).tolist()
    guided = ClassifierFreeGuidance(labelled, 3.0, interval=(level[0], level[1]))
    alone, everywhere = labelled.predict(X, TIMES, y=Y), ClassifierFreeGuidance(labelled, 3.0).predict(X, TIMES, y=Y)
    batches.clear()
    for k, t in enumerate(TIMES.tolist()):
        expected = everywhere if k == 1 else alone
        close(guided.predict(X, t, y=Y).x0[k], expected.x0[k])
    assert batches == [3, 6, 3]  # guided above the lower end, up to the higher one
    found = guided.predict(X, TIMES, y=Y)
    close(found.x0, torch.stack([alone.x0[0], everywhere.x0[1], alone.x0[2]]))
    close(guided.output(X, TIMES, y=Y), found.output)


def test_a_call_is_one_network_call_to_a_sampler(labelled, batches):
    *_, step = DDPM(steps=4).trajectory(ClassifierFreeGuidance(labelled, 2.0, (0.1, 50.0)), X, y=Y)
    assert step.nfe == 4
    # At 0, 333, 666 and 999 sigma/alpha is .01, 1.5, 9.4 and 157.
    assert batches == [3, 6, 6, 3]


def test_the_last_class_is_the_null_label_unless_another_is_named(labelled):
    assert ClassifierFreeGuidance(labelled, 2.0).num_classes == 10
    named = ClassifierFreeGuidance(labelled, 0.0, null=2)
    assert named.num_classes == 11
    close(named.predict(X, 59.0, y=Y).x0, labelled.predict(X, 59.0, y=torch.full((3,), 2)).x0)


def test_labels_may_be_fixed_around_guidance(labelled):
    close(
        FixedLabels(ClassifierFreeGuidance(labelled, 2.0), Y).predict(X, 59.0).x0,
        ClassifierFreeGuidance(labelled, 2.0).predict(X, 59.0, y=Y).x0,
    )
    with pytest.raises(ValueError, match=r"^y: 10 .* 10 .*; give 0 to 9$"):
        FixedLabels(ClassifierFreeGuidance(labelled, 2.0), 10)


def test_a_guided_image_is_the_same_in_any_batch(labelled):
    guided, y = ClassifierFreeGuidance(labelled, 2.0), torch.tensor([3, 1, 4, 1, 5])
    together = etsdm.sample(guided, 5, sampler=DDIM(steps=3), y=y)
    close(etsdm.sample(guided, 5, sampler=DDIM(steps=3), y=y, batch_size=2), together)
    assert (etsdm.sample(labelled, 5, sampler=DDIM(steps=3), y=y) - together).abs().max() > 1e-3


def test_guidance_without_labels_is_refused(labelled, tiny_denoiser):
    with pytest.raises(ValueError, match=r"^y: .*; give them, or wrap in FixedLabels$"):
        ClassifierFreeGuidance(labelled, 2.0).predict(X, 59.0)
    with pytest.raises(ValueError, match=r"^denoiser: .*; give one with a null class beside its classes$"):
        ClassifierFreeGuidance(tiny_denoiser(), 2.0)
    with pytest.raises(ValueError, match=r"^denoiser: .* 1 .*; give one with a null class beside its classes$"):
        ClassifierFreeGuidance(tiny_denoiser(backbone={"num_classes": 1}), 2.0)


def test_a_null_label_or_an_interval_that_is_none_is_refused(labelled):
    with pytest.raises(ValueError, match=r"^null: 11 .* 11 .*; give 0 to 10$"):
        ClassifierFreeGuidance(labelled, 2.0, null=11)
    for interval in ((2.0, 1.0), (1.0, 1.0), (-1.0, 1.0)):
        with pytest.raises(ValueError, match=r"^interval: .*; give 0 or more, the lower one first$"):
            ClassifierFreeGuidance(labelled, 2.0, interval)


def test_what_is_given_for_each_image_goes_around_guidance(labelled):
    inside = Inpainting(labelled, X, torch.ones(1, 1, 1, 1, dtype=torch.bool), torch.zeros_like(X))
    with pytest.raises(ValueError, match=r"^denoiser: .* 3 .*; wrap it around ClassifierFreeGuidance instead$"):
        ClassifierFreeGuidance(inside, 2.0)
    with pytest.raises(ValueError, match=r"^denoiser: DenoiserWrapper inside has 3 rows"):
        ClassifierFreeGuidance(DenoiserWrapper(inside), 2.0)
    one_for_all = Inpainting(labelled, X[:1], torch.ones(1, 1, 1, 1, dtype=torch.bool), torch.zeros_like(X[:1]))
    close(ClassifierFreeGuidance(one_for_all, 2.0).predict(X, 59.0, y=Y).x0, X[:1].expand(3, 1, 8, 8))
    around = Inpainting(ClassifierFreeGuidance(labelled, 2.0), X, torch.ones(1, 1, 1, 1, dtype=torch.bool), torch.zeros_like(X))
    assert torch.equal(around.predict(X, 59.0, y=Y).x0, X)
