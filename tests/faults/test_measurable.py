"""What a recipe is to measure is checked when it is built: what it accepts can be measured, and the rest is refused before training."""

import copy
import re
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import etsdm
from etsdm.analysis import lipschitz_curve, steps_of_curve
from etsdm.cli.app import app
from etsdm.data import Digits, LoadedImages
from etsdm.errors import DataError, PartError, RecipeError
from etsdm.metrics import EvaluationInputs
from etsdm.registry import REGISTRIES, metrics, schedules
from etsdm.schedules import Flow, Linear

DIGITS = Path(__file__).parents[2] / "recipes" / "digits.yaml"
SMALL = {
    "name": "small",
    "data": "digits",
    "model": {
        "schedule": {"type": "linear", "timesteps": 40},
        "backbone": {"type": "mlp", "image_size": 8, "in_channels": 1, "out_channels": 1, "width": 4, "depth": 1},
    },
    "training": {"images": 4, "batch_size": 2},
    "sampling": {"sampler": {"type": "ddim", "steps": 4}, "n": 8},
}


def build(*overrides):
    return etsdm.build(copy.deepcopy(SMALL), *overrides)


def refusal(*overrides):
    with pytest.raises(RecipeError) as caught:
        build(*overrides)
    return str(caught.value)


def metric(name, **fields):
    inside = "".join(f", {key}: {value}" for key, value in fields.items())
    return f"evaluation.metrics=[{{type: {name}{inside}}}]"


FOLDER = "data={type: image-folder, path: nowhere, image_size: 8, channels: 1}"
LARGE = (
    "data={type: image-folder, path: nowhere, image_size: 128, channels: 1}",
    "model.backbone={type: mlp, image_size: 128, in_channels: 1, out_channels: 1, width: 4, depth: 1}",
)
ZERO_SNR = (
    "model.schedule={type: zero-terminal-snr, base: {type: linear, timesteps: 40}}",
    "model.target={type: eps, allow_eps_at_zero_snr: true}",
)
OUT_OF_RANGE = {
    "lipschitz": [
        (r"metrics\.0\.start: 30 does not lie before the last timestep, 20; give 0 to 19", (metric("lipschitz", start=30, stop=20),)),
        (r"metrics\.0\.start: 20 does not lie before the last timestep, 20;", (metric("lipschitz", start=20, stop=20),)),
        (r"metrics\.0\.stop: 50 is beyond the 39 timesteps of schedule 'linear' .*; give 1 to 39", (metric("lipschitz", stop=50),)),
        (r"metrics\.0\.stop: 40 is beyond the 39 timesteps", (metric("lipschitz", stop=40),)),
        (r"metrics\.0\.start: 39 does not lie before the last timestep, 39; give 0 to 38", (metric("lipschitz", start=39),)),
        (
            r"metrics\.0\.start: 8 does not lie before the last timestep, 8, twice as far .*or stop, 9 to 39",
            (metric("lipschitz", start=8),),
        ),
        (
            r"metrics\.0\.stop: 1000 is beyond the 999 timesteps of schedule 'flow'",
            ("model.schedule=flow", "model.target=v", metric("lipschitz", stop=1000)),
        ),
        (
            r"metrics\.0\.type: schedule 'linear' has one timestep, and K needs two",
            ("model.schedule.timesteps=1", "sampling.sampler.steps=1", metric("lipschitz")),
        ),
    ],
    "loss-per-t": [
        (
            r"metrics\.0\.loss: 'hybrid' measures a variance, which the model does not learn; give mse",
            (metric("loss-per-t", loss="hybrid"),),
        ),
        (
            r"metrics\.0\.loss\.space: an error of 'eps' has no finite weight in the space of 'v' at t = 39",
            (*ZERO_SNR, metric("loss-per-t", loss="{type: mse, space: v}")),
        ),
        (
            r"metrics\.0\.loss\.dt: 50 is longer than schedule 'linear', .*; give 39 or less",
            (metric("loss-per-t", loss="{type: lipschitz-regularized, weight: 1, dt: 50}"),),
        ),
        (r"metrics\.0: 'loss-per-t' measures held-out images, and data.held_out is 0", (FOLDER, "data.held_out=0", metric("loss-per-t"))),
    ],
    "pixel-frechet": [
        (
            r"metrics\.0\.chunks: 8 samples do not fill 5 chunks of 2; draw 10 or more, or take 4 chunks or fewer",
            (metric("pixel-frechet", chunks=5),),
        ),
        (r"metrics\.0\.chunks: 1 samples do not fill 4 chunks of 2; draw 8 or more$|\(", ("sampling.n=1", metric("pixel-frechet"))),
        (r"metrics\.0\.chunks: 3 samples", ("sampling={a: {n: 8}, b: {n: 3}}", metric("pixel-frechet"))),
        (r"metrics\.0\.type: 'pixel-frechet' .* 16,384 .* more than 12,288; leave it out", (*LARGE, metric("pixel-frechet"))),
        (r"metrics\.0: 'pixel-frechet' measures held-out images", (FOLDER, "data.held_out=0", metric("pixel-frechet"))),
    ],
    "recognition": [
        (r"metrics\.0\.type: .*data set 'image-folder' has one; give its labels by data.classes", (FOLDER, metric("recognition"))),
        (r"metrics\.0: 'recognition' measures held-out images", (FOLDER, "data.held_out=0", "data.classes=2", metric("recognition"))),
    ],
}


def test_every_metric_has_values_out_of_range():
    assert set(OUT_OF_RANGE) == set(metrics.names())


@pytest.mark.parametrize(
    ("message", "overrides"),
    [case for cases in OUT_OF_RANGE.values() for case in cases],
    ids=lambda value: None if isinstance(value, str) else "",
)
def test_a_metric_that_cannot_be_measured_is_refused(message, overrides):
    assert re.search(r"^evaluation\." + message, refusal(*overrides)), refusal(*overrides)


def test_the_message_names_the_line_of_the_metric(tmp_path):
    file = tmp_path / "small.yaml"
    file.write_text(f"extends: {DIGITS}\nevaluation:\n  metrics:\n    - type: lipschitz\n      start: 300\n      stop: 200\n")
    with pytest.raises(RecipeError, match=r"evaluation\.metrics\.0\.start: 300 .* \(.*small\.yaml:5\)"):
        etsdm.build(file)
    file.write_text(f"extends: {DIGITS}\nevaluation:\n  metrics:\n    - type: lipschitz\n      start: 300\n")
    with pytest.raises(RecipeError, match=r"evaluation\.metrics\.0\.start: 300 .*before the last timestep, 200.* \(.*small\.yaml:5\)"):
        etsdm.build(file)


def test_sub_intervals_of_another_arm_make_room_for_a_later_start():
    arms = "arms={a: {}, b: {model.condition_map: {type: e-tsdm, t_tilde: 20, n: 2}}}"
    assert "before the last timestep, 8" in refusal(metric("lipschitz", start=8))
    assert set(build(metric("lipschitz", start=8), arms).arms) == {"a", "b"}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("evaluation.edges=[0, 41]",), r"evaluation\.edges\.1: 41 is outside the times of schedule 'linear'; give 0 to 40"),
        (("evaluation.edges=[50, 60, 70]",), r"evaluation\.edges\.0: 50 is outside"),
        (("evaluation.edges=[0, 5]", "model.schedule=flow", "model.target=v"), r"edges\.1: 5 is outside .* 'flow'; give 0 to 1"),
        (("evaluation.edges=[0, 500]", "model.schedule=edm", "model.target=edm"), r"edges\.1: 500 is outside .* 'edm'; give 0 to 80"),
    ],
)
def test_edges_outside_the_schedule_are_refused(overrides, message):
    with pytest.raises(RecipeError, match=message):
        build(*overrides)
    assert build("evaluation.edges=[0, 40]").recipe.evaluation.edges == (0, 40)


def test_a_curve_has_a_step_or_more():
    assert steps_of_curve(Flow(), (0, 0.0001)) == 1
    assert steps_of_curve(Linear(), (0, 0.1)) == 1
    assert steps_of_curve(Linear(), (0, 100)) == 200


MAPS = st.sampled_from(
    ["identity", "{type: e-tsdm, t_tilde: 0.0001, n: 3}", "{type: e-tsdm, t_tilde: 0.4, n: 3}", "{type: e-tsdm, t_tilde: 30, n: 7}"]
)
FIELDS = {
    "lipschitz": {"images": st.sampled_from([1, 3]), "start": st.integers(0, 60), "stop": st.none() | st.integers(1, 60)},
    "loss-per-t": {
        "fine": st.sampled_from([1, 3]),
        "coarse": st.sampled_from([1, 3]),
        "loss": st.sampled_from(
            ["mse", "hybrid", "{type: lipschitz-regularized, weight: 1, dt: 41}", "{type: mse, weighting: min-snr}"]
            + [f"{{type: mse, space: {name}}}" for name in REGISTRIES["targets"].names()]
        ),
    },
    "pixel-frechet": {"chunks": st.integers(1, 6)},
    "recognition": {"regularisation": st.sampled_from([0.1, 10.0])},
}
EDGES = st.none() | st.lists(st.sampled_from([0.0, 1e-9, 0.001, 0.5, 1.0, 39.0, 40.0, 41.0, 100.0]), min_size=2, max_size=4, unique=True)


def test_every_metric_is_drawn_with_all_its_fields():
    for name, part in metrics.classes().items():
        assert set(part.model_fields) - {"name", "batch_size"} == set(FIELDS[name])


@st.composite
def measured(draw):
    name = draw(st.sampled_from(sorted(FIELDS)))
    fields = {key: value for key, values in FIELDS[name].items() if (value := draw(values)) is not None}
    schedule = draw(st.sampled_from(sorted(schedules.names())))
    timesteps = ", timesteps: 40" if "timesteps" in schedules.classes()[schedules[schedule].type_name].model_fields else ""
    edges = draw(EDGES)
    return [
        metric(name, **fields),
        f"model.schedule={{type: {schedule}{timesteps}}}" if schedules.defaults(schedule) == {} else f"model.schedule={schedule}",
        f"model.target={draw(st.sampled_from(sorted(REGISTRIES['targets'].names())))}",
        f"model.condition_map={draw(MAPS)}",
        f"sampling.n={draw(st.integers(1, 8))}",
        *([] if edges is None else [f"evaluation.edges={sorted(edges)}"]),
    ]


@settings(max_examples=40, derandomize=True, suppress_health_check=list(HealthCheck))
@given(measured())
def test_what_a_recipe_accepts_can_be_measured(overrides):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            recipe = build(*overrides).recipe
        except RecipeError:
            return
    data, evaluation = Digits(), recipe.evaluation
    (train, test), n = (data.open(split) for split in ("train", "test")), recipe.sampling.n
    few = LoadedImages(test.pixels[:4], test.labels[:4])
    (one,) = evaluation.metrics
    one.check_images(train, few)
    result = one.compute(EvaluationInputs(recipe.model.build().eval(), train.batch(range(n)), train, few, 0, evaluation.edges))
    assert result.values or result.curves
    for curve in result.curves.values():
        assert all(torch.isfinite(torch.tensor(curve.mean)))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("data.held_out=0.0001",), r"data\.held_out: 0\.0001 of 1797 images is none; hold out more"),
        (("data.held_out=0.9999",), r"data\.held_out: 0\.9999 of 1797 images leaves none for training"),
        ((FOLDER, "data.count=10", "data.held_out=10"), r"data\.held_out: 10 of 10 images leaves none for training; hold out fewer"),
        (("training.loss={type: hybrid}",), r"training\.loss: 'hybrid' trains a variance"),
        (("training.loss={type: lipschitz-regularized, weight: 1, dt: 40}",), r"training\.loss\.dt: 40 is longer than schedule 'linear'"),
        (
            (*ZERO_SNR, "training.loss={type: mse, space: x0}"),
            r"training\.loss\.space: an error of 'eps' has no finite weight in the space of 'x0' at t = 39 of .*; leave it out",
        ),
        (
            (*ZERO_SNR, "training.loss={type: lipschitz-regularized, weight: 1, mse: {space: x0}}"),
            r"training\.loss\.mse\.space: an error of 'eps'",
        ),
        (
            ("training.time_sampler={type: uniform-in-f, map: {type: compose, maps: [{type: inverse}, {type: inverse}]}}",),
            r"training\.time_sampler\.map",
        ),
    ],
)
def test_parts_that_fail_in_a_training_are_refused(overrides, message):
    with pytest.raises(RecipeError, match=message):
        build(*overrides)


@pytest.mark.parametrize(
    ("fields", "labels", "held_out", "message"),
    [
        ("recognition", [0] * 9 + [1] * 4, 2, r"recognition: class 1 has 4 training images, fewer than the 5 folds .*; add images"),
        ("recognition", [0] * 9, 2, r"recognition: the training images have one class"),
        ("pixel-frechet", [0, 1] * 9, 1, r"pixel-frechet: 1 images are held out, and a covariance needs 2; hold out more"),
        ("pixel-frechet", [0], 2, r"pixel-frechet: 1 images are for training, .*; hold out fewer"),
    ],
)
def test_images_that_do_not_suffice_are_refused_before_measuring(fields, labels, held_out, message):
    train = LoadedImages(torch.zeros(len(labels), 1, 8, 8), torch.tensor(labels))
    test = LoadedImages(torch.zeros(held_out, 1, 8, 8), torch.zeros(held_out, dtype=torch.long))
    part = metrics.create(fields)
    with pytest.raises(DataError, match=message):
        part.check_images(train, test)


def test_a_run_checks_the_images_of_its_metrics_before_it_trains(tmp_path):
    from PIL import Image

    for k in range(9):
        folder = tmp_path / "images" / ("a" if k < 6 else "b")
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 20 * k).save(folder / f"{k}.png")
    data = f"data={{type: image-folder, path: {tmp_path / 'images'}, image_size: 8, channels: 1, classes: 2, held_out: 1}}"
    experiment = etsdm.build(copy.deepcopy(SMALL), data, metric("recognition"), out=tmp_path / "runs")
    with pytest.raises(DataError, match=r"recognition: class 1 has [23] training images"):
        experiment.run()
    assert not list(tmp_path.glob("runs/**/checkpoints/*"))


def test_the_command_and_the_function_refuse_times_outside_the_schedule(tiny_denoiser, tmp_path):
    denoiser = tiny_denoiser()
    etsdm.save(denoiser, tmp_path / "d")
    result = CliRunner().invoke(app, ["lipschitz", str(tmp_path / "d"), "--data", "digits", "--t", "0:5000", "--json"])
    assert (result.exit_code, type(result.exception)) == (2, SystemExit) or isinstance(result.exception, RecipeError)
    assert "--t: 5e+03 is outside" in str(result.exception) or "--t: 4999" in str(result.exception) + result.output
    with pytest.raises(PartError, match=r"^t: 4999 is outside the times of schedule 'linear'; give t in \[0, 999\]"):
        lipschitz_curve(denoiser, torch.zeros(2, 1, 8, 8), range(5000))
