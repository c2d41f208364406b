"""Checkpoints of guided-diffusion: the network found in keys and shapes, and what has to be given."""

import json
import warnings

import pytest
import torch
from entry_point import run
from foreign import filled

import etsdm
from etsdm.backbones import ADMUNet
from etsdm.errors import CheckpointError, IntegrityError
from etsdm.interop import Options, convert
from etsdm.interop.conversion import shapes_of
from etsdm.interop.origins.guided_diffusion import PUBLISHED
from etsdm.interop.origins.unet_keys import preset_of, unet_fields
from etsdm.registry import backbones

SMALL = {
    "image_size": 16,
    "in_channels": 1,
    "model_channels": 16,
    "out_channels": 2,
    "num_res_blocks": 2,
    "attention_resolutions": (2,),
    "channel_mult": (1, 2, 2),
    "num_head_channels": 8,
    "norm_groups": 8,
}
GIVEN = {"schedule": "cosine", "condition_map": "e-tsdm", "backbone": {"image_size": 16, "num_head_channels": 8, "norm_groups": 8}}


@pytest.fixture
def source(tmp_path):
    """A checkpoint, its network, and its path."""

    def make(state=lambda state: state, name="ema_0.9999_000010.pt", **changes):
        network = filled(ADMUNet(**{**SMALL, **changes}).build())
        torch.save(state(dict(network.state_dict())), tmp_path / name)
        return network, tmp_path / name

    return make


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"resblock_updown": True, "use_scale_shift_norm": True, "num_classes": 5},
        {"conv_resample": False, "out_channels": 1},
        {"num_res_blocks": 1, "time_embed_dim": 24, "attention_resolutions": ()},
        {"channel_mult": (0.5, 1), "attention_resolutions": (1, 2), "norm_groups": 4},
        {"channel_mult": (2,), "attention_resolutions": (1,)},
    ],
)
def test_fields_are_found_in_shapes(tmp_path, changes):
    spec = ADMUNet(**{**SMALL, **changes})
    found = unet_fields(tmp_path, shapes_of(spec.build_on_meta().state_dict()), "x")
    assert ADMUNet(**{**found, "image_size": 16, "num_head_channels": 8, "norm_groups": spec.norm_groups}) == spec


@pytest.mark.parametrize("name", ["adm-imagenet-64", "adm-upsampler-64-256", "improved-cifar10"])
def test_published_networks_are_known_by_their_shapes(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spec = backbones.create(name)
    assert backbones.create(preset_of(shapes_of(spec.build_on_meta().state_dict()), tuple(PUBLISHED))).num_heads == spec.num_heads
    assert etsdm.DenoiserSpec.model_validate({"backbone": name, **PUBLISHED[name]}).learns_variance


def test_a_checkpoint_comes_back_with_its_weights_and_a_report(source, tmp_path):
    network, path = source(num_classes=3)
    report = convert("guided-diffusion", path, tmp_path / "out", Options(model=GIVEN))
    denoiser = etsdm.load(tmp_path / "out")
    assert denoiser.spec.backbone == ADMUNet(**SMALL, num_classes=3)
    assert denoiser.spec.condition_map.type_name == "e-tsdm"
    assert denoiser.spec.schedule.type_name == "cosine"
    assert denoiser.learns_variance
    assert all(torch.equal(value, denoiser.backbone.state_dict()[key]) for key, value in network.state_dict().items())
    x, t, y = torch.ones(1, 1, 16, 16), torch.tensor([40.0]), torch.tensor([2])
    assert torch.equal(denoiser.output(x, t, y=y), network(x, t, y)[:, :1])
    written = json.loads((tmp_path / "out" / "conversion.json").read_text())
    assert written["used"] == {key: key for key in network.state_dict()}
    assert written["ignored"] == {}
    assert written["weights_are"] == "ema"
    assert written["parity"] == report.parity
    assert report.parity["tensors"] == len(network.state_dict())


def test_half_precision_is_named_and_raised_to_float32(source, tmp_path):
    network, path = source(lambda state: {key: value.half() for key, value in state.items()})
    report = convert("guided-diffusion", path, tmp_path / "out", Options(model=GIVEN))
    assert report.dtypes == {"float16": len(network.state_dict())}
    stored = etsdm.load(tmp_path / "out").backbone.state_dict()
    assert all(torch.equal(value.half().float(), stored[key]) for key, value in network.state_dict().items())


def test_every_key_is_accounted_for(source, tmp_path):
    changes = {
        r"1 keys missing \(out\.0\.bias\)": lambda state: {key: value for key, value in state.items() if key != "out.0.bias"},
        r"1 keys not expected \(extra\.weight\)": lambda state: {**state, "extra.weight": torch.ones(1)},
        r"1 keys of another shape \(out\.0\.bias 3 in place of 16\)": lambda state: {**state, "out.0.bias": torch.ones(3)},
        r"'out\.0\.bias' has values of torch\.int64": lambda state: {**state, "out.0.bias": torch.ones(16, dtype=torch.long)},
        r"is no UNet of guided-diffusion: key 'time_embed\.0\.weight' is missing": lambda state: {
            key: value for key, value in state.items() if not key.startswith("time_embed")
        },
    }
    for message, change in changes.items():
        _, path = source(change)
        with pytest.raises(CheckpointError, match=rf"ema_0\.9999_000010\.pt: .*{message}"):
            convert("guided-diffusion", path, tmp_path / "out", Options(model=GIVEN))
        assert not (tmp_path / "out").exists()


def test_what_shapes_do_not_hold_has_to_be_given(source, tmp_path):
    _, path = source()
    with pytest.raises(
        CheckpointError, match=r"schedule, backbone\.image_size, backbone\.num_head_channels: not in the file.*give schedule="
    ):
        convert("guided-diffusion", path, tmp_path / "out")
    with pytest.raises(CheckpointError, match=r"model\.backbone\.norm_groups: .*"):
        convert("guided-diffusion", path, tmp_path / "out", Options(model={**GIVEN, "backbone": {**GIVEN["backbone"], "norm_groups": 0}}))
    with pytest.raises(CheckpointError, match=r"does not fit backbone 'adm-unet': \d+ keys missing"):
        convert("guided-diffusion", path, tmp_path / "out", Options(model={"schedule": "linear", "backbone": "ddpm-cifar10"}))


def test_weights_that_are_not_finite_are_refused_and_leave_nothing(source, tmp_path):
    _, path = source(lambda state: {**state, "out.0.bias": torch.full((16,), torch.nan)})
    with pytest.raises(IntegrityError, match=r"weight 'out\.0\.bias'.* is not finite"):
        convert("guided-diffusion", path, tmp_path / "out", Options(model=GIVEN))
    assert sorted(file.name for file in tmp_path.iterdir()) == [path.name]


def test_the_command_converts_and_names_mistakes(source, tmp_path):
    _, path = source()
    fields = ["schedule=linear", "backbone.image_size=16", "backbone.num_head_channels=8", "backbone.norm_groups=8"]
    done = run("convert", "guided-diffusion", path, *fields, "--out", tmp_path / "out", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["origin"] == "guided-diffusion"
    assert etsdm.load(tmp_path / "out").schedule.type_name == "linear"
    again = run("convert", "guided-diffusion", path, *fields, "--out", tmp_path / "out")
    assert again.returncode == 2
    assert "out: exists and is not overwritten" in again.stderr
    unknown = run("convert", "guide", path, "--out", tmp_path / "other")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "origin: 'guide' is unknown; " in unknown.stderr
    shown = run("convert", "guided-diffusion", path, *fields, "--out", tmp_path / "second").stdout
    assert "equal to the source's bit by bit; 0 keys ignored" in shown
