import re

import pytest
import torch
from doubles import RecordingNetwork
from pydantic import ValidationError
from torch import nn

from etsdm.backbones import External
from etsdm.condition_maps import Identity
from etsdm.denoisers.denoiser import Denoiser, DenoiserSpec
from etsdm.denoisers.protocol import DenoiserLike
from etsdm.errors import PartError
from etsdm.randomness import generator, per_sample_normal
from etsdm.registry import format_errors, targets
from etsdm.schedules import Linear, Sigmoid, ZeroTerminal, ZeroTerminalContinuous

X = torch.randn(3, 1, 8, 8, generator=generator(0, "test/x"), dtype=torch.float64)
T = torch.tensor([7.0, 59.0, 400.0], dtype=torch.float64)
every_target = pytest.mark.parametrize("target", list(targets))


@pytest.fixture
def recording(tiny_spec):
    """Makes a denoiser whose network is a `RecordingNetwork`, from changes to the tiny specification."""
    return lambda **parts: Denoiser(tiny_spec(**parts), RecordingNetwork(lambda x: x.flip(-1), 0.3, torch.float64))


def refused(spec, **parts):
    with pytest.raises(ValidationError) as error:
        spec(**parts)
    return [(problem.field, problem.message) for problem in format_errors(error.value)]


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
    close(targets.create(target).training_target(found.x0, found.eps, alpha, sigma), found.output)
    close(found.output, 0.3 * (targets.create(target).c_in(alpha, sigma) * X).flip(-1))


@every_target
def test_one_time_for_all_images_equals_a_time_for_each(recording, target):
    denoiser = recording(target=target, condition_map="e-tsdm")
    each = denoiser.predict(X, torch.full((3,), 59.0, dtype=torch.float64))
    for t in (59, 59.0, torch.tensor(59.0), torch.tensor([59])):
        for space in ("output", "x0", "eps", "v", "score"):
            close(getattr(denoiser.predict(X, t), space), getattr(each, space))
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
    found = denoiser.output(X, T, condition_t=T + 20)
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
    assert isinstance(denoiser, DenoiserLike)


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
    ((field, message),) = refused(tiny_spec, schedule=schedule, target=target)
    assert field == "target"
    mend = r"x0 at alpha = 0; use v, or set allow_eps_at_zero_snr"
    assert re.fullmatch(rf"{target!r} .* {mend} \(the last time of schedule {schedule.type_name!r}\)", message)


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


@pytest.mark.parametrize("target", ["eps", "v", "x0", "score"])
@pytest.mark.parametrize("t", [0.0, 19.5, 20.0, 731.25, 999.0])
def test_a_time_that_is_a_number_says_what_it_says_as_a_tensor_again_and_again(tiny_denoiser, target, t):
    denoiser = tiny_denoiser(target=target, condition_map="e-tsdm").double()
    x = per_sample_normal(0, "test/x", range(2), denoiser.shape).double()
    with torch.no_grad():
        expected = denoiser.predict(x, torch.tensor(t, dtype=torch.float64))
        for _ in range(2):
            found = denoiser.predict(x, t)
            for space in ("output", "x0", "eps", "v", "score"):
                # The score of an x0-network divides rounding errors by sigma^2, 1e-4 at t = 0.
                torch.testing.assert_close(getattr(found, space), getattr(expected, space), rtol=1e-12, atol=1e-11)


def test_a_copy_with_another_map_remembers_nothing_of_the_first(tiny_denoiser):
    denoiser = tiny_denoiser(condition_map="e-tsdm")
    other = Denoiser(denoiser.spec.model_copy(update={"condition_map": Identity()}), denoiser.backbone)
    x = per_sample_normal(0, "test/x", range(2), denoiser.shape)
    with torch.no_grad():
        assert torch.equal(denoiser.predict(x, 30.0).output, other.predict(x, 20.0).output)
        assert not torch.equal(denoiser.predict(x, 30.0).output, other.predict(x, 30.0).output)


def test_a_denoiser_is_called_like_any_module(tiny_denoiser):
    denoiser, x = tiny_denoiser(), X.float()
    with torch.no_grad():
        assert torch.equal(denoiser(x, T).x0, denoiser.predict(x, T).x0)
        assert torch.equal(denoiser(x, 59.0).x0, denoiser.predict(x, 59.0).x0)


def test_a_learned_variance_is_the_second_half_as_the_network_gives_it(tiny_spec):
    network = RecordingNetwork(lambda x: torch.cat([0.5 * x[:, :1], -2.0 * x[:, :1]], dim=1))
    denoiser = Denoiser(tiny_spec(backbone={"out_channels": 2}, target="edm"), network)
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


@pytest.mark.parametrize(
    ("parts", "field", "message"),
    [
        (
            {"backbone": {"out_channels": 3}},
            "backbone.out_channels",
            "3 channels, but 1 are denoised; give 1, or 2 to learn the variance of sampling steps",
        ),
        (
            {"backbone": {"in_channels": 2}},
            "backbone.out_channels",
            "1 channels, but 2 are denoised; give 2, or 4 to learn the variance of sampling steps",
        ),
    ],
)
def test_outputs_that_are_no_image_and_no_variance_are_refused(tiny_spec, parts, field, message):
    assert refused(tiny_spec, **parts) == [(field, message)]


def test_a_printed_denoiser_starts_with_schedule_target_and_condition_map(tiny_denoiser):
    first = str(tiny_denoiser(target="v", condition_map="e-tsdm")).splitlines()[1].strip()
    assert re.match(
        r"schedule=Linear\(timesteps=1000, .*\), target=V\(.*\), condition_map=ETSDM\(t_tilde=100.0, n=5, .*\), shape=\(1, 8, 8\)$", first
    )


def test_a_network_in_place_of_a_backbone_is_named_and_not_printed():
    network = nn.Sequential(*[nn.Linear(8, 8) for _ in range(100)])
    with pytest.raises(ValidationError, match=r"found a Sequential; give the name of a backbone or a mapping") as caught:
        DenoiserSpec(schedule="linear", backbone=network)
    assert "in_features" not in str(caught.value)
    assert "in_features" not in str(DenoiserSpec(schedule="linear", backbone=External(network, shape=(1, 8, 8))))


def test_a_tensor_of_times_outside_the_schedule_is_refused_by_the_network_too(tiny_denoiser):
    with pytest.raises(PartError, match=r"^t: 1000 is outside the times of schedule 'linear'"):
        tiny_denoiser().output(torch.zeros(1, 1, 8, 8), torch.tensor([1000.0]))


@every_target
@pytest.mark.parametrize(
    ("t", "condition_t", "message"),
    [
        (T[:2], None, r"t: has shape \(2,\) for 3 images"),
        (T[:, None], None, r"t: has shape \(3, 1\) for 3 images"),
        (T, T[:2], r"condition_t: has shape \(2,\) for 3 images"),
        (T, T[:, None], r"condition_t: has shape \(3, 1\) for 3 images"),
    ],
)
def test_times_that_are_not_one_for_each_image_are_refused(recording, target, t, condition_t, message):
    with pytest.raises(PartError, match=f"^{message}"):
        recording(target=target).output(X, t, condition_t=condition_t)
