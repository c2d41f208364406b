"""Networks that etsdm did not make: called, trained, saved and read back, and not written into recipes."""

import copy
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import diffusers
import pytest
import torch
from pydantic import ValidationError
from sealing import edit
from torch import nn

import etsdm
from etsdm.backbones import MLP, Execution, External
from etsdm.checkpoints import write_denoiser
from etsdm.data import Digits
from etsdm.errors import CheckpointError, RegistryError
from etsdm.randomness import per_sample_normal
from etsdm.registry import backbones
from etsdm.training import Trainer
from etsdm.training.config import Training

SHAPE = (1, 8, 8)


class Net(nn.Module):
    """A linear map of each pixel, then a shift by the time and by the label, which it calls `c`."""

    def __init__(self, out_channels=1):
        super().__init__()
        self.conv = nn.Conv2d(1, out_channels, 1)
        self.scale = nn.Parameter(torch.tensor(0.001))
        self.register_buffer("offset", torch.zeros(()))

    def forward(self, x, t, c=None):
        shift = self.scale * t + self.offset + (0 if c is None else c)
        return self.conv(x) + shift[:, None, None, None]


def spec_of(network, **options):
    return etsdm.DenoiserSpec(schedule="linear", target="eps", backbone=External(network, SHAPE, **options))


def inputs(batch=3):
    return per_sample_normal(0, "test/images", range(batch), SHAPE), torch.linspace(1, 900, batch)


def saved(folder, denoiser):
    folder.mkdir()
    write_denoiser(folder, denoiser, denoiser.backbone.state_dict())
    return folder


def test_a_denoiser_calls_the_given_network_with_the_time_input():
    x, t = inputs()
    net = Net()
    assert torch.equal(spec_of(net).build().output(x, t), net(x, t))
    # The condition map acts before the network: [0, 20) is told as 0.
    mapped = etsdm.DenoiserSpec(schedule="linear", backbone=External(net, SHAPE), condition_map={"type": "e-tsdm", "t_tilde": 100, "n": 5})
    assert torch.equal(mapped.build().output(x, torch.tensor([19.0, 5.0, 500.0])), net(x, torch.tensor([0.0, 0.0, 500.0])))


def test_building_takes_the_network_itself_whatever_the_seed():
    net = Net()
    before = copy.deepcopy(net.state_dict())
    spec = spec_of(net)
    one, other = spec.build(0), spec.build(1)
    assert one.backbone.network is other.backbone.network is net
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    one.eval().requires_grad_(False)
    assert not net.training
    assert not any(parameter.requires_grad for parameter in net.parameters())


def test_a_callable_without_weights_is_a_backbone():
    # For x0 = 0 the noise is eps = x / sigma; the target is eps, so the exact network is x / sigma(t).
    sigma = etsdm.schedules.Linear().sigma
    spec = spec_of(lambda x, t: x / sigma(t)[:, None, None, None].float())
    denoiser = spec.build().eval()
    x, t = inputs()
    assert denoiser.device == torch.device("cpu")
    assert denoiser.predict(x, t).x0.abs().max() < 1e-5
    assert etsdm.sample(denoiser, n=2, steps=5, seed=0).abs().max() < 1e-3
    assert list(denoiser.state_dict()) == []
    assert spec.backbone.summary().parameters == 0


@pytest.mark.parametrize(
    "wrap", [lambda out: out, lambda out: (out,), lambda out: [out, None], lambda out: SimpleNamespace(sample=out)], ids=range(4)
)
def test_the_sample_is_taken_out_of_what_diffusers_return(wrap):
    x, t = inputs()
    assert torch.equal(spec_of(lambda x, t: wrap(2 * x)).build().output(x, t), 2 * x)


@pytest.mark.parametrize("output", [None, (), {"sample": 1}, "x"])
def test_an_output_without_a_tensor_is_refused(output):
    with pytest.raises(TypeError, match=rf"backbone: .* returned a {type(output).__name__}; return a tensor"):
        spec_of(lambda x, t: output).build().output(*inputs())


@pytest.mark.parametrize("output", [torch.zeros(3, 2, 8, 8), torch.zeros(3, 1, 4, 4), torch.zeros(3)])
def test_an_output_of_another_shape_is_refused(output):
    with pytest.raises(ValueError, match=r"backbone: .*shape .*\(3, 1, 8, 8\).*out_channels"):
        spec_of(lambda x, t: output).build().output(*inputs())


def test_labels_go_by_the_networks_own_argument():
    x, t = inputs()
    net, y = Net(), torch.tensor([0, 1, 2])
    denoiser = spec_of(net, num_classes=3, label_argument="c").build()
    assert denoiser.num_classes == 3
    assert torch.equal(denoiser.output(x, t, y=y), net(x, t, c=y))
    assert not torch.equal(denoiser.output(x, t, y=y), net(x, t))
    with pytest.raises(ValueError, match="labels are missing; give y, one of 3 classes"):
        denoiser.output(x, t)
    with pytest.raises(ValueError, match="labels were given to a network without classes"):
        spec_of(net).build().output(x, t, y=y)


def test_other_conditions_are_passed_on():
    x, t = inputs()
    denoiser = spec_of(lambda x, t, text: x + text).build()
    assert torch.equal(denoiser.output(x, t, text=torch.ones(())), x + 1)


def test_a_learned_variance_is_declared_by_its_channels():
    x, t = inputs()
    net = Net(out_channels=2)
    denoiser = spec_of(net, out_channels=2).build()
    assert denoiser.spec.learns_variance
    prediction = denoiser.predict(x, t)
    assert torch.equal(prediction.eps, net(x, t)[:, :1].to(prediction.eps))
    assert torch.equal(prediction.variance_logit, net(x, t)[:, 1:])


@pytest.mark.parametrize("shape", [(1, 8), (8,), (3, 32, 32, 1)])
def test_a_shape_that_is_no_image_is_refused(shape):
    with pytest.raises(ValidationError, match=r"shape\n.*give \(channels, height, width\)"):
        External(Net(), shape)


@pytest.mark.parametrize(("network", "options"), [(3, {}), (Net(), {"out_channels": 0}), (Net(), {"num_classes": 0})])
def test_a_field_out_of_range_is_refused(network, options):
    with pytest.raises(ValidationError):
        External(network, SHAPE, **options)


def test_equality_is_that_of_the_module():
    net = Net()
    assert External(net, SHAPE) == External(net, SHAPE)
    assert hash(spec_of(net)) == hash(spec_of(net))
    assert External(net, SHAPE) != External(copy.deepcopy(net), SHAPE)
    assert External(net, SHAPE) != External(net, SHAPE, num_classes=3)
    assert External(net, SHAPE).model_copy(update={"num_classes": 3}) == External(net, SHAPE, num_classes=3)


@pytest.mark.parametrize("dump", ["model_dump", "model_dump_json"])
def test_it_is_not_written_into_a_recipe(dump):
    spec = spec_of(Net())
    for part in (spec, spec.backbone):
        with pytest.raises(ValueError, match=r"model\.backbone: Net is an external network.*register a Backbone part.*pass the network"):
            getattr(part, dump)()


def test_a_recipe_cannot_name_it():
    assert "external" not in backbones.names()
    with pytest.raises(RegistryError, match="unknown backbone 'external'"):
        backbones.parse({"type": "external", "shape": SHAPE})


def test_a_checkpoint_comes_back_into_a_given_network(tmp_path):
    denoiser = spec_of(Net(), num_classes=3, label_argument="c").build().eval()
    folder = saved(tmp_path / "checkpoint", denoiser)
    record = json.loads((folder / "denoiser.json").read_text())["denoiser"]["backbone"]
    assert record == {"type": "external", "shape": [1, 8, 8], "out_channels": 1, "num_classes": 3, "label_argument": "c"}
    fresh = Net()
    found = etsdm.load(folder, backbone=fresh)
    assert found.backbone.network is fresh
    assert found.spec == denoiser.spec.model_copy(update={"backbone": denoiser.spec.backbone.model_copy(update={"network": fresh})})
    x, t = inputs()
    y = torch.tensor([0, 1, 2])
    assert torch.equal(found.output(x, t, y=y), denoiser.output(x, t, y=y))


def test_keys_of_the_weights_are_the_networks_behind_a_prefix():
    assert list(spec_of(Net()).build().backbone.state_dict()) == [
        "network.scale",
        "network.offset",
        "network.conv.weight",
        "network.conv.bias",
    ]


def test_a_checkpoint_without_its_network_is_refused(tmp_path):
    folder = saved(tmp_path / "checkpoint", spec_of(Net()).build())
    with pytest.raises(CheckpointError, match=r"denoiser\.json: denoiser\.backbone: .*give .*backbone="):
        etsdm.load(folder)


class More(Net):
    def __init__(self):
        super().__init__()
        self.more = nn.Linear(2, 2)


class Fewer(Net):
    def __init__(self):
        super().__init__()
        del self.scale


@pytest.mark.parametrize("other", [More, Fewer, lambda: Net(out_channels=2)], ids=["more", "fewer", "wider"])
def test_a_network_with_other_weights_is_refused(tmp_path, other):
    folder = saved(tmp_path / "checkpoint", spec_of(Net()).build())
    with pytest.raises(CheckpointError, match=r"the weights do not fit backbone 'external'"):
        etsdm.load(folder, backbone=other())


def test_a_network_for_a_backbone_that_etsdm_builds_is_refused(tmp_path, tiny_denoiser):
    folder = saved(tmp_path / "checkpoint", tiny_denoiser())
    with pytest.raises(CheckpointError, match=r"denoiser\.backbone: 'adm-unet' is built by etsdm; leave backbone= out"):
        etsdm.load(folder, backbone=Net())


@pytest.mark.parametrize("change", [{"out_channels": 0}, {"colour": 1}, {"shape": [1, 8]}])
def test_a_damaged_record_is_refused(tmp_path, change):
    folder = saved(tmp_path / "checkpoint", spec_of(Net()).build())
    edit(folder / "denoiser.json", lambda record: record["denoiser"]["backbone"].update(change))
    with pytest.raises(CheckpointError, match=rf"denoiser\.json: denoiser\.(backbone\.)?.*{next(iter(change))}"):
        etsdm.load(folder, backbone=Net())


def test_training_resumes_bit_for_bit_and_leaves_other_networks_alone(tmp_path):
    training = Training(images=256, batch_size=32, learning_rate=1e-2, ema=0.5)
    digits = Digits().open("train")

    def trainer():
        torch.manual_seed(0)
        return Trainer(spec_of(Net()), training, digits, seed=0)

    whole, broken, resumed = trainer(), trainer(), trainer()
    for _ in range(4):
        whole.step()
        broken.step()
    broken.save(tmp_path / "checkpoint")
    resumed.restore(tmp_path / "checkpoint")
    assert all(parameter.requires_grad for parameter in resumed.denoiser.backbone.parameters())
    for _ in range(4):
        whole.step()
        resumed.step()
    assert whole.average.module.network is not whole.denoiser.backbone.network
    for one, other in ((whole.denoiser.backbone, resumed.denoiser.backbone), (whole.average.module, resumed.average.module)):
        assert all(torch.equal(value, other.state_dict()[key]) for key, value in one.state_dict().items())
    assert not torch.equal(whole.denoiser.backbone.network.conv.weight, whole.average.module.network.conv.weight)


def test_the_cost_is_counted_without_a_copy_of_the_weights():
    net = Net()
    summary = External(net, SHAPE).summary(batch=2)
    assert (summary.parameters, summary.flops) == (3, 2 * 64)
    assert summary.weights == 4 * (3 + 1)  # with the buffer
    assert net.conv.weight.device.type == "cpu"
    inside = MLP(image_size=8, in_channels=1, out_channels=1, width=16, depth=2, time_embed_dim=8)
    own, wrapped = inside.summary(2), External(inside.build(), SHAPE).summary(2)
    assert (own.parameters, own.flops, own.activations) == (wrapped.parameters, wrapped.flops, wrapped.activations)


def test_options_that_have_no_effect_are_named():
    network = spec_of(Net()).build().backbone
    with pytest.warns(UserWarning, match=r"gradient_checkpointing have no effect on Net; set them on the network"):
        Execution(gradient_checkpointing=True).prepare(network)
    Execution(channels_last=True).prepare(network)


def test_a_unet_of_diffusers_with_labels_gives_its_own_output():
    unet = diffusers.UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        num_class_embeds=10,
    ).eval()
    x, t = inputs()
    y = torch.tensor([0, 5, 9])
    denoiser = spec_of(unet, num_classes=10, label_argument="class_labels").build()
    assert torch.equal(denoiser.output(x, t, y=y), unet(x, t, class_labels=y).sample)
    summary = denoiser.spec.backbone.summary()
    assert summary.parameters == sum(parameter.numel() for parameter in unet.parameters())
    assert summary.flops > summary.parameters


@pytest.mark.slow
def test_the_example_runs_in_under_thirty_lines(tmp_path):
    file = Path(__file__).parents[2] / "examples" / "external_unet.py"
    assert len(file.read_text().splitlines()) < 30
    done = subprocess.run([sys.executable, file, tmp_path / "checkpoint"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    samples, constants = done.stdout.splitlines()
    assert samples == "samples: (4, 1, 8, 8)"
    # One condition inside [0, 20), another after its end (paper Eq. 8).
    inside, *others = json.loads(constants.partition(": ")[2])
    assert inside == 0
    assert min(others) > 0
