import re

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from etsdm.denoiser import Denoiser, Predictor
from etsdm.randomness import ambient, generator, normal
from etsdm.registry import explain, targets
from etsdm.schedules import Linear, Sigmoid, ZeroTerminal, ZeroTerminalContinuous


class Recording(nn.Module):
    """A network that notes what it is told and answers with a fixed mixture of its input."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.3, dtype=torch.float64))
        self.times = []
        self.inputs = []
        self.labels = []

    def forward(self, x, time, y=None):
        self.times.append(time)
        self.inputs.append(x)
        self.labels.append(y)
        return self.scale * x.flip(-1)


class Halves(nn.Module):
    """A network that notes its input and answers with two fixed multiples of its first channel, one after the other."""

    def __init__(self):
        super().__init__()
        self.scales = nn.Parameter(torch.tensor([0.5, -2.0]))
        self.inputs = []

    def forward(self, x, time):
        self.inputs.append(x)
        return torch.cat([scale * x[:, :1] for scale in self.scales], dim=1)


AUTOENCODER = {
    "resolution": 8,
    "in_channels": 1,
    "out_ch": 1,
    "ch": 8,
    "ch_mult": (1, 2),
    "num_res_blocks": 1,
    "attn_resolutions": (),
    "z_channels": 2,
    "norm_groups": 4,
    "scale_factor": 0.25,
}
VQ = {"type": "vq", "n_embed": 16, **AUTOENCODER}
KL = {"type": "kl", **AUTOENCODER}
LATENT = {"image_size": 4, "in_channels": 2, "out_channels": 2}  # what it makes of 8x8 pixels
PAIRED = {"in_channels": 2}  # the noisy image and the enlarged small one
IMAGES = normal(0, "test/images", range(3), (1, 8, 8)).clamp(-1, 1)
LABELS = torch.tensor([1, 2, 3])

X = torch.randn(3, 1, 8, 8, generator=generator(0, "test/x"), dtype=torch.float64)
T = torch.tensor([7.0, 59.0, 400.0], dtype=torch.float64)
every_target = pytest.mark.parametrize("target", list(targets))


@pytest.fixture
def recording(tiny_spec):
    """Makes a denoiser whose network is a `Recording`, from changes to the tiny specification."""
    return lambda **parts: Denoiser(tiny_spec(**parts), Recording())


def refused(spec, **parts):
    with pytest.raises(ValidationError) as error:
        spec(**parts)
    return [(problem.field, problem.message) for problem in explain(error.value)]


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_the_network_is_told_the_shared_condition(recording):
    denoiser = recording(condition_map="e-tsdm")
    denoiser.predict(X, T)
    assert denoiser.backbone.times[0].tolist() == [0, 40, 400]
    assert denoiser.condition(T).tolist() == [0, 40, 400]


@every_target
def test_only_the_condition_changes_under_shared_conditions(recording, target):
    baseline, shared = recording(target=target), recording(target=target, condition_map="e-tsdm")
    one, other = baseline.predict(X, T), shared.predict(X, T)
    assert baseline.backbone.times[0].tolist() == [7, 59, 400]
    assert torch.equal(baseline.backbone.inputs[0], shared.backbone.inputs[0])
    for space in ("output", "x0", "eps", "v", "score"):
        assert torch.equal(getattr(one, space), getattr(other, space))


@every_target
@pytest.mark.parametrize("condition_map", ["identity", "e-tsdm"])
def test_image_noise_velocity_and_score_are_consistent_at_the_true_time(recording, target, condition_map):
    found = recording(target=target, condition_map=condition_map).predict(X, T)
    alpha, sigma = Linear().alpha(T).reshape(3, 1, 1, 1), Linear().sigma(T).reshape(3, 1, 1, 1)
    close(alpha * found.x0 + sigma * found.eps, X)
    close(found.v, alpha * found.eps - sigma * found.x0)
    close(found.score, -found.eps / sigma)
    close(targets.create(target).value(found.x0, found.eps, alpha, sigma), found.output)
    close(found.output, 0.3 * (targets.create(target).c_in(alpha, sigma) * X).flip(-1))


@every_target
def test_one_time_for_all_images_equals_a_time_for_each(recording, target):
    denoiser = recording(target=target, condition_map="e-tsdm")
    each = denoiser.predict(X, torch.full((3,), 59.0, dtype=torch.float64))
    for t in (59, 59.0, torch.tensor(59.0), torch.tensor([59])):
        for space in ("output", "x0", "eps", "v", "score"):
            assert torch.equal(getattr(denoiser.predict(X, t), space), getattr(each, space))
        assert torch.equal(denoiser.output(X, t), each.output)
    assert {tuple(time.tolist()) for time in denoiser.backbone.times} == {(40, 40, 40)}


def test_a_python_time_is_not_rounded_to_single_precision(recording):
    denoiser = recording()
    close(denoiser.predict(X, 5.1).x0, denoiser.predict(X, torch.tensor(5.1, dtype=torch.float64)).x0)


def test_a_scaled_time_input_multiplies_the_condition(recording):
    denoiser = recording(condition_map="e-tsdm", time_input={"type": "scaled", "factor": 10})
    denoiser.predict(X, T)
    assert denoiser.backbone.times[0].tolist() == [0, 400, 4000]


def test_the_network_can_be_told_another_time_for_the_same_input(recording):
    denoiser = recording(condition_map="e-tsdm", target="edm")
    found = denoiser.output(X, T, told=T + 20)
    assert denoiser.backbone.times[0].tolist() == [20, 60, 420]
    plain = denoiser.output(X, T)
    assert torch.equal(denoiser.backbone.inputs[0], denoiser.backbone.inputs[1])
    assert torch.equal(found, plain)


def test_the_network_is_told_single_precision_times(recording):
    denoiser = recording()
    denoiser.predict(X, T)
    assert denoiser.backbone.times[0].dtype == torch.float32


def test_a_prediction_has_the_dtype_of_the_images(tiny_denoiser):
    found = tiny_denoiser(target="v").predict(X.float(), T)
    assert all(getattr(found, space).dtype == torch.float32 for space in ("output", "x0", "eps", "v", "score"))


def test_labels_reach_the_network(recording):
    denoiser = recording(backbone={"num_classes": 10})
    labels = torch.tensor([1, 2, 3])
    denoiser.predict(X, T, y=labels)
    assert denoiser.backbone.labels[0] is labels
    assert denoiser.num_classes == 10


def test_a_time_outside_the_schedule_is_refused(recording):
    with pytest.raises(ValueError, match=r"t: 1000 is outside .* \[0, 999\]"):
        recording().predict(X, 1000)


def test_a_denoiser_knows_its_shape_and_device(tiny_denoiser):
    denoiser = tiny_denoiser()
    assert denoiser.shape == (1, 8, 8)
    assert denoiser.num_classes is None
    assert denoiser.device.type == "cpu"
    assert isinstance(denoiser, Predictor)


def test_all_weights_are_those_of_the_backbone(tiny_denoiser):
    denoiser = tiny_denoiser()
    assert {f"backbone.{name}" for name in denoiser.backbone.state_dict()} == set(denoiser.state_dict())


def test_a_specification_has_the_defaults_of_ddpm(tiny_spec):
    dump = tiny_spec().model_dump()
    assert dump["target"] == {"type": "eps", "allow_eps_at_zero_snr": False, "scale_input": False}
    assert dump["condition_map"] == {"type": "identity"}
    assert dump["time_input"] == {"type": "timesteps"}


def test_a_specification_comes_back_equal_from_its_dump(tiny_spec):
    spec = tiny_spec(condition_map={"type": "e-tsdm", "n": 10}, target="v")
    assert type(spec).model_validate(spec.model_dump(mode="json")) == spec
    assert type(spec).model_validate_json(spec.model_dump_json()) == spec


def test_a_t_tilde_beyond_the_horizon_is_refused(tiny_spec):
    assert refused(tiny_spec, schedule={"type": "linear", "timesteps": 50}, condition_map="e-tsdm") == [
        ("condition_map.t_tilde", "100 is beyond the schedule's horizon; give 50 or less")
    ]


@pytest.mark.parametrize("target", ["eps", "score"])
@pytest.mark.parametrize("schedule", [ZeroTerminal(), ZeroTerminalContinuous(), Sigmoid()])
def test_noise_prediction_is_refused_where_the_signal_is_zero(tiny_spec, schedule, target):
    reason = "the noise says nothing of x0 at alpha = 0; use v, or set allow_eps_at_zero_snr"
    message = f"found {target!r}; {reason} (the last time of schedule {schedule.type_name!r})"
    assert refused(tiny_spec, schedule=schedule, target=target) == [("target", message)]


def test_noise_prediction_without_terminal_signal_is_taken_where_it_is_asked_for(recording):
    denoiser = recording(schedule=ZeroTerminal(), target={"type": "eps", "allow_eps_at_zero_snr": True})
    close(denoiser.predict(X, 999).eps, denoiser.output(X, 999))
    assert denoiser.predict(X, 998).x0.isfinite().all()


@pytest.mark.parametrize("target", ["v", "x0", "edm", "flow"])
def test_other_targets_go_with_a_schedule_that_ends_without_signal(recording, target):
    found = recording(schedule=ZeroTerminal(), target=target).predict(X, 999)
    close(found.eps, X)
    assert found.x0.isfinite().all()


def test_the_velocity_of_a_velocity_network_is_its_output(tiny_denoiser):
    found = tiny_denoiser(target="v").predict(X.float(), T)
    assert torch.equal(found.v, found.output)


def test_building_is_a_function_of_the_seed(tiny_spec):
    one, same, other = tiny_spec().build(3), tiny_spec().build(3), tiny_spec().build(4)
    weights = [denoiser.state_dict() for denoiser in (one, same, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert any(not torch.equal(weights[0][name], weights[2][name]) for name in weights[0])


def test_building_leaves_the_global_generator_alone(tiny_spec):
    state = torch.get_rng_state()
    tiny_spec().build(3)
    assert torch.equal(torch.get_rng_state(), state)


def test_arms_that_differ_in_the_condition_map_start_from_the_same_weights(tiny_spec):
    baseline, shared = tiny_spec().build(0), tiny_spec(condition_map="e-tsdm").build(0)
    assert all(torch.equal(baseline.state_dict()[name], shared.state_dict()[name]) for name in baseline.state_dict())


def test_a_trained_denoiser_answers_the_same_within_a_sub_interval(tiny_denoiser):
    denoiser, x = tiny_denoiser(condition_map="e-tsdm"), X.float()
    assert torch.equal(denoiser.output(x, 0), denoiser.output(x, 19))
    assert not torch.equal(denoiser.output(x, 19), denoiser.output(x, 20))


@pytest.mark.parametrize("first_stage", [VQ, KL])
def test_a_first_stage_makes_latents_of_images_and_images_of_latents(tiny_denoiser, first_stage):
    denoiser = tiny_denoiser(backbone=LATENT, first_stage=first_stage)
    assert (denoiser.shape, denoiser.spec.image_shape) == ((2, 4, 4), (1, 8, 8))
    assert not denoiser.bounded
    assert not denoiser.spec.bounded
    latents = denoiser.encode(IMAGES)
    assert latents.shape == (3, 2, 4, 4)
    assert denoiser.predict(latents, T).x0.shape == (3, 2, 4, 4)
    decoded = denoiser.decode(latents)
    assert decoded.shape == (3, 1, 8, 8)
    torch.testing.assert_close(denoiser.decode(latents, chunk=2), decoded, rtol=1e-5, atol=1e-6)
    assert not latents.requires_grad
    assert not decoded.requires_grad


def test_latents_of_a_codebook_are_the_scaled_output_of_the_encoder(tiny_denoiser):
    # z = s E(x) before quantisation, which is the decoder's first layer (Rombach et al. 2022).
    denoiser = tiny_denoiser(backbone=LATENT, first_stage=VQ)
    network = denoiser.first_stage
    encoded = network.quant_conv(network.encoder(IMAGES))
    torch.testing.assert_close(denoiser.encode(IMAGES), 0.25 * encoded)
    assert torch.equal(denoiser.encode(IMAGES, generator(0, "test/latents")), denoiser.encode(IMAGES))
    nearest = torch.cdist(encoded.permute(0, 2, 3, 1), network.quantize.embedding.weight).argmin(-1)
    entries = network.quantize.embedding.weight[nearest].permute(0, 3, 1, 2)
    torch.testing.assert_close(denoiser.decode(0.25 * encoded), network.decoder(network.post_quant_conv(entries)))


def test_latents_of_a_distribution_are_its_means_or_drawn_from_a_generator(tiny_denoiser):
    denoiser = tiny_denoiser(backbone=LATENT, first_stage=KL)
    network = denoiser.first_stage
    mean, log_variance = network.quant_conv(network.encoder(IMAGES)).chunk(2, dim=1)
    torch.testing.assert_close(denoiser.encode(IMAGES), 0.25 * mean)
    noise = torch.randn(mean.shape, generator=generator(0, "test/latents"))
    drawn = denoiser.encode(IMAGES, generator(0, "test/latents"))
    torch.testing.assert_close(drawn, 0.25 * (mean + (log_variance / 2).exp() * noise))
    assert not torch.equal(denoiser.encode(IMAGES, generator(1, "test/latents")), drawn)


def test_a_denoiser_is_shown_latents_and_the_labels_that_it_knows(tiny_denoiser):
    denoiser = tiny_denoiser(backbone={**LATENT, "num_classes": 10}, first_stage=KL)
    x0, cond = denoiser.shown(IMAGES, LABELS)
    assert torch.equal(x0, denoiser.encode(IMAGES))
    assert list(cond) == ["y"]
    assert torch.equal(cond["y"], LABELS)
    drawn, _ = denoiser.shown(IMAGES, LABELS, generator(0, "test/latents"))
    assert torch.equal(drawn, denoiser.encode(IMAGES, generator(0, "test/latents")))


def test_without_a_first_stage_images_are_shown_encoded_and_decoded_as_they_are(tiny_denoiser):
    denoiser = tiny_denoiser()
    assert denoiser.bounded
    assert denoiser.spec.image_shape == denoiser.shape == (1, 8, 8)
    x0, cond = denoiser.shown(IMAGES, LABELS, generator(0, "test/latents"))
    assert cond == {}
    for images in (x0, denoiser.encode(IMAGES), denoiser.decode(IMAGES)):
        assert torch.equal(images, IMAGES)


def test_training_mode_and_gradients_are_the_backbones_alone(tiny_spec):
    denoiser = tiny_spec(backbone=LATENT, first_stage={**VQ, "dropout": 0.5}).build()
    assert not denoiser.first_stage.training
    assert denoiser.train() is denoiser
    assert denoiser.backbone.training
    assert not any(module.training for module in denoiser.first_stage.modules())
    assert torch.equal(denoiser.encode(IMAGES), denoiser.encode(IMAGES))
    denoiser.eval()
    assert not denoiser.backbone.training
    assert all(parameter.requires_grad for parameter in denoiser.backbone.parameters())
    assert not any(parameter.requires_grad for parameter in denoiser.first_stage.parameters())


def test_a_first_stage_is_drawn_from_a_stream_of_its_own(tiny_spec):
    alone, beside = tiny_spec(backbone=LATENT).build(3), tiny_spec(backbone=LATENT, first_stage=VQ).build(3)
    assert all(torch.equal(weight, beside.backbone.state_dict()[name]) for name, weight in alone.backbone.state_dict().items())
    with ambient(3, "model/first-stage"):
        expected = beside.spec.first_stage.build().state_dict()
    assert all(torch.equal(weight, expected[name]) for name, weight in beside.first_stage.state_dict().items())
    other = tiny_spec(backbone=LATENT, first_stage=VQ).build(4).first_stage
    assert not torch.equal(other.encode(IMAGES), beside.first_stage.encode(IMAGES))


def test_a_learned_variance_is_the_second_half_as_the_network_gives_it(tiny_spec):
    denoiser = Denoiser(tiny_spec(backbone={"out_channels": 2}, target="edm"), Halves())
    assert denoiser.spec.learns_variance
    assert denoiser.shape == (1, 8, 8)
    x = X.float()
    found = denoiser.predict(x, T)
    given = denoiser.backbone.inputs[0]
    assert torch.equal(found.output, 0.5 * given)
    assert torch.equal(found.variance_logit, -2 * given)
    assert torch.equal(denoiser.output(x, T), found.output)
    alpha, sigma = Linear().alpha(T).reshape(3, 1, 1, 1), Linear().sigma(T).reshape(3, 1, 1, 1)
    torch.testing.assert_close((alpha * found.x0 + sigma * found.eps).float(), x)
    assert found.score.shape == found.v.shape == x.shape


def test_a_fixed_variance_is_none(tiny_spec, tiny_denoiser):
    assert not tiny_spec().learns_variance
    assert tiny_denoiser().predict(X.float(), T).variance_logit is None


@pytest.mark.parametrize("filter", ["bicubic", "bilinear"])
def test_the_network_sees_the_noisy_image_scaled_and_the_small_one_enlarged(tiny_spec, filter):
    # Karras et al. scale the noisy image alone: a small image has no noise, and keeps its range.
    denoiser = Denoiser(tiny_spec(backbone=PAIRED, target="edm", super_resolution={"factor": 2, "filter": filter}), Halves())
    assert denoiser.shape == denoiser.spec.image_shape == (1, 8, 8)
    low_res = normal(0, "test/small", range(3), (1, 4, 4)).clamp(-1, 1)
    x = X.float()
    denoiser.output(x, T, low_res=low_res)
    noisy, enlarged = denoiser.backbone.inputs[0].split(1, dim=1)
    alpha, sigma = Linear().alpha(T), Linear().sigma(T)
    c_in = (1 / (sigma**2 + 0.25 * alpha**2).sqrt()).reshape(3, 1, 1, 1)  # sigma_data = 0.5
    torch.testing.assert_close(noisy, (c_in * x).float())
    torch.testing.assert_close(enlarged, nn.Upsample(scale_factor=2, mode=filter)(low_res))
    denoiser.predict(x, T, low_res=low_res)
    assert torch.equal(denoiser.backbone.inputs[1], denoiser.backbone.inputs[0])


def test_a_denoiser_is_shown_the_small_images_of_super_resolution(tiny_spec):
    denoiser = tiny_spec(backbone=PAIRED, super_resolution={"factor": 2}).build()
    x0, cond = denoiser.shown(IMAGES, LABELS)
    assert torch.equal(x0, IMAGES)
    assert list(cond) == ["low_res"]
    assert torch.equal(cond["low_res"], denoiser.spec.super_resolution.reduce(IMAGES))


def test_missing_and_misshapen_small_images_are_refused(tiny_denoiser):
    denoiser, x = tiny_denoiser(backbone=PAIRED, super_resolution={"factor": 2}), X.float()
    with pytest.raises(ValueError, match=r"^low_res: the small images are missing, which super-resolution is told; give them$"):
        denoiser.predict(x, T)
    for shape in [(3, 1, 8, 8), (3, 2, 4, 4), (2, 1, 4, 4), (1, 4, 4)]:
        with pytest.raises(ValueError, match=rf"^low_res: its shape is {re.escape(str(shape))}; give \(3, 1, 4, 4\)$"):
            denoiser.predict(x, T, low_res=torch.zeros(shape))


def test_super_resolution_may_learn_its_variance(tiny_denoiser):
    denoiser = tiny_denoiser(backbone={"in_channels": 2, "out_channels": 2}, super_resolution={"factor": 2})
    assert denoiser.spec.learns_variance
    found = denoiser.predict(X.float(), T, low_res=torch.zeros(3, 1, 4, 4))
    assert found.output.shape == found.variance_logit.shape == (3, 1, 8, 8)


@pytest.mark.parametrize(
    ("parts", "field", "message"),
    [
        (
            {"backbone": {"out_channels": 3}},
            "backbone.out_channels",
            "3 channels, but 1 are denoised; give 1, or 2 to learn the variance of sampling steps",
        ),
        (
            {"backbone": PAIRED},
            "backbone.out_channels",
            "1 channels, but 2 are denoised; give 2, or 4 to learn the variance of sampling steps",
        ),
        (
            {"super_resolution": {"factor": 2}},
            "backbone.in_channels",
            "1 is odd; give twice an image's channels, for the noisy and the enlarged image",
        ),
        (
            {"backbone": {"in_channels": 2, "out_channels": 4}, "super_resolution": {"factor": 2}},
            "backbone.out_channels",
            "4 channels, but 1 are denoised; give 1, or 2 to learn the variance of sampling steps",
        ),
        (
            {"backbone": PAIRED, "super_resolution": {"factor": 3}},
            "super_resolution.factor",
            "3 does not divide the 8 pixels of an image; give a divisor",
        ),
        ({"backbone": PAIRED, "super_resolution": {"factor": 1}}, "super_resolution.factor", "found 1; give 2 or more"),
        (
            {"backbone": PAIRED, "super_resolution": {"filter": "lanczos"}},
            "super_resolution.filter",
            "found 'lanczos'; give 'bicubic' or 'bilinear'",
        ),
        (
            {"backbone": {**LATENT, "out_channels": 1}, "first_stage": VQ, "super_resolution": {"factor": 2}},
            "super_resolution",
            "found beside a first stage; leave one of the two out",
        ),
        ({"first_stage": VQ}, "first_stage", "its latents are 2x4x4, but the backbone takes 1x8x8; change one of the two"),
        (
            {"backbone": LATENT, "first_stage": {**KL, "embed_dim": 3}},
            "first_stage",
            "its latents are 3x4x4, but the backbone takes 2x4x4; change one of the two",
        ),
        (
            {"backbone": LATENT, "first_stage": {**VQ, "scale_factor": 0}},
            "first_stage.vq.scale_factor",
            "found 0; give a value above 0",
        ),
    ],
)
def test_parts_that_do_not_fit_each_other_are_refused(tiny_spec, parts, field, message):
    assert refused(tiny_spec, **parts) == [(field, message)]


def test_a_specification_with_a_first_stage_or_a_small_image_comes_back_equal_from_its_dump(tiny_spec):
    for spec in (
        tiny_spec(backbone=LATENT, first_stage=VQ),
        tiny_spec(backbone=LATENT, first_stage=KL),
        tiny_spec(backbone=PAIRED, super_resolution={"factor": 2, "filter": "bilinear"}),
    ):
        assert type(spec).model_validate_json(spec.model_dump_json()) == spec
