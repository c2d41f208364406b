"""A wrapped network like any denoiser: sampled, measured, trained, saved; compiled, in data parallelism, in half precision."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import diffusers
import pytest
import torch
from torch import nn

import etsdm
from etsdm.analysis import log_likelihood
from etsdm.backbones import External
from etsdm.data import Digits
from etsdm.data.order import SampleOrder
from etsdm.errors import PartError
from etsdm.interop import wrap
from etsdm.randomness import generator, per_sample_normal
from etsdm.training import Trainer
from etsdm.training.config import Training

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
SHAPE = (1, 8, 8)
ETSDM = {"type": "e-tsdm", "t_tilde": 100, "n": 5}
T = torch.tensor([0.0, 19.0, 57.0, 999.0])
MAPPED = torch.tensor([0.0, 0.0, 40.0, 999.0])
UNET = {
    "sample_size": 8,
    "in_channels": 1,
    "out_channels": 1,
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
}


def unet(**changes):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return diffusers.UNet2DModel(**{**UNET, **changes}).eval()


def images():
    return per_sample_normal(0, "test/images", range(4), SHAPE)


def wrapped(network, **options):
    return wrap(network, **{"schedule": "linear", "target": "eps", **options})


def by_hand(network, t=T, x=None):
    with torch.no_grad():
        return network(images() if x is None else x, t).sample


def output(denoiser, t=T):
    with torch.no_grad():
        return denoiser.output(images(), t)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "dpm-solver++-2m", "heun"])
def test_samplers_take_it(sampler):
    samples = etsdm.sample(wrapped(unet(), condition_map=ETSDM), n=2, sampler=sampler, steps=4)
    assert samples.shape == (2, *SHAPE)
    assert samples.isfinite().all()


def test_estimators_take_it():
    net = unet()
    denoiser, x = wrapped(net, condition_map=ETSDM), images().clamp(-1, 1)
    curve = etsdm.lipschitz_curve(denoiser, x, t=(5, 19, 120))
    assert curve.mean[0] == 0  # one condition (paper Eq. 8)
    assert curve.mean[1] > 0
    plain = etsdm.lipschitz_curve(wrapped(net), x, t=(5, 19, 120))
    assert plain.mean[0] > 0
    assert curve.mean[2] == plain.mean[2]
    assert log_likelihood(denoiser, x[:1], rtol=1e-1, atol=1e-1).log_likelihood.isfinite().all()


def test_the_network_keeps_its_mode_and_its_gradients():
    net = unet().train()
    net.mid_block.eval()
    denoiser = wrapped(net)
    assert denoiser.training
    assert net.training
    assert not net.mid_block.training
    denoiser.eval().requires_grad_(False)
    assert not net.training
    assert not any(parameter.requires_grad for parameter in net.parameters())
    assert not wrapped(unet()).training


def test_twenty_steps_of_the_trainer_and_of_a_plain_loop_are_one():
    digits, training = Digits().open("train"), Training(images=20 * 8, batch_size=8, learning_rate=1e-3, ema=0.9, gradient_clip=None)
    ours, theirs = unet(), unet()
    trainer = Trainer(wrapped(ours, condition_map=ETSDM).spec, training, digits, seed=0)
    before = copy.deepcopy(ours.state_dict())
    for _ in range(20):
        trainer.step()
    assert trainer.denoiser.backbone.network is ours
    assert not torch.equal(ours.conv_in.weight, before["conv_in.weight"])
    # The same step with the denoiser's own parts, at the trainer's images, times and noise.
    again = Trainer(wrapped(theirs, condition_map=ETSDM).spec, training, digits, seed=0)
    denoiser, optimizer = again.denoiser, again.optimizer
    replay = Replay(training, digits)
    theirs.train()
    for _ in range(20):
        x0, t, eps, rate = replay.batch()
        alpha, sigma = (value.float()[:, None, None, None] for value in denoiser.schedule.alpha_sigma(t))
        shared = torch.where(t < 100, t.div(20, rounding_mode="floor") * 20, t).float()
        loss = (theirs(alpha * x0 + sigma * eps, shared).sample - eps).square().mean()
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for name, weight in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], weight, rtol=1e-4, atol=1e-6)


class Replay:
    """Images, times, noise and learning rate of a trainer's steps, from its named streams."""

    def __init__(self, training, digits):
        self.training, self.digits, self.order, self.seen = training, digits, SampleOrder(len(digits), 0), 0

    def batch(self):
        seen, count = self.seen, self.training.batch_size
        x0 = self.digits.batch(self.order.indices(seen, count)).pixels
        t = self.training.time_sampler.draw(etsdm.schedules.Linear(), count, generator(0, "training/times", seen, "cpu"))
        eps = torch.empty_like(x0).normal_(generator=generator(0, "training/noise", seen, "cpu"))
        self.seen += count
        return x0, t, eps, self.training.learning_rate_at(seen)


def test_it_is_saved_and_read_back_into_another_network(tmp_path):
    denoiser = wrapped(unet(), condition_map=ETSDM)
    etsdm.save(denoiser, tmp_path / "saved")
    fresh = diffusers.UNet2DModel(**UNET)
    found = etsdm.load(tmp_path / "saved", backbone=fresh)
    assert torch.equal(output(found), by_hand(unet(), MAPPED))
    assert found.condition_map == denoiser.condition_map


class Conditional(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x, t, text, mask):
        return x * self.weight + (text.mean(1) * mask)[:, None, None, None] + t[:, None, None, None]


def test_fixed_conditions_are_saved_with_the_weights(tmp_path):
    text, mask = torch.arange(3.0).reshape(1, 3), torch.tensor([True])
    denoiser = wrapped(Conditional(), shape=SHAPE, conditions={"text": text, "mask": mask})
    etsdm.save(denoiser, tmp_path / "saved")
    found = etsdm.load(tmp_path / "saved", backbone=Conditional())
    assert torch.equal(output(found), output(denoiser))
    assert torch.equal(found.backbone.condition_mask, mask)
    assert set(found.state_dict()) == {"backbone.network.weight", "backbone.condition_text", "backbone.condition_mask"}


def test_signature_and_bounds_come_back(tmp_path):
    class Latent(nn.Module):
        def forward(self, hidden, timestep):
            return hidden + timestep[:, None, None, None]

    options = {"shape": (4, 8, 6), "signature": "diffusers"}
    denoiser = wrapped(Latent(), **options)
    etsdm.save(denoiser, tmp_path / "saved")
    other = Latent()
    found = etsdm.load(tmp_path / "saved", backbone=other)
    assert found.spec.backbone == denoiser.spec.backbone.model_copy(update={"network": other})
    assert (found.shape, found.bounded) == ((4, 8, 6), False)


@pytest.mark.parametrize("conditions", [{"text": 3}, {"text": torch.ones(())}, {"a b": torch.ones(1)}])
def test_conditions_that_are_no_rows_are_refused(conditions):
    with pytest.raises(PartError, match=r"^conditions.*; give "):
        wrapped(Conditional(), shape=SHAPE, conditions=conditions)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "liner"}, r"unknown schedule 'liner'; did you mean 'linear'"),
        ({"target": "epsilon"}, r"target: .*known|target: .*did you mean"),
        ({"condition_map": {**ETSDM, "t_tilde": 2000}}, r"condition_map\.t_tilde: 2000 is beyond the schedule's horizon"),
        ({"time_input": "log-sigma"}, r"time_input: 'log-sigma' takes the logarithm"),
        ({"shape": (1, 8)}, r"shape: found \(1, 8\); give \(channels, height, width\)"),
        ({"num_classes": 0}, r"num_classes: found 0"),
        ({"out_channels": 3}, r"(backbone\.)?out_channels: 3 channels, but 1 are denoised"),
        ({"schedule": "zero-terminal-snr"}, r"target: 'eps' does not determine x0"),
    ],
)
def test_an_option_that_does_not_fit_is_named(options, message):
    with pytest.raises(ValueError, match=rf"^{message}"):
        wrapped(unet(), **options)


@pytest.mark.parametrize("model", [3, None, nn.Linear, torch.ones(1)])
def test_what_is_no_network_is_refused(model):
    with pytest.raises(PartError, match=r"^model: found .*; give a network"):
        wrapped(model)


def test_a_denoiser_is_not_wrapped_again(tiny_denoiser):
    with pytest.raises(PartError, match=r"^model: found a Denoiser already; .*\.backbone"):
        wrapped(tiny_denoiser())


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(()))

    def forward(self, x, t):
        return x * self.weight + t[:, None, None, None]


def test_a_compiled_network_is_read_inside():
    net = unet(num_class_embeds=3)
    denoiser = wrapped(torch.compile(net, backend="eager"))  # not called, because tracing takes long
    assert (denoiser.shape, denoiser.num_classes) == (SHAPE, 3)
    assert set(denoiser.backbone.state_dict()) == {f"network.{key}" for key in net.state_dict()}


def test_a_checkpoint_of_a_compiled_network_fits_the_network_itself(tmp_path):
    net = Net()
    denoiser = wrapped(torch.compile(net, backend="eager"), shape=SHAPE)
    assert torch.equal(output(denoiser), net(images(), T))
    etsdm.save(denoiser, tmp_path / "saved")
    for fresh in (Net(), torch.compile(Net(), backend="eager")):
        found = etsdm.load(tmp_path / "saved", backbone=fresh)
        assert torch.equal(output(found), net(images(), T))


def test_a_network_in_data_parallelism(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        net = unet()
        denoiser = wrapped(nn.parallel.DistributedDataParallel(net), condition_map=ETSDM)
        assert torch.equal(output(denoiser), by_hand(net, MAPPED))
        assert set(denoiser.backbone.state_dict()) == {f"network.{key}" for key in net.state_dict()}
        denoiser.output(images(), T).square().mean().backward()
        assert net.conv_in.weight.grad.abs().max() > 0
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_network_in_another_precision_is_called_in_it(dtype):
    net = unet().to(dtype)
    found = output(wrapped(net))
    assert found.dtype == torch.float32
    assert torch.equal(found, by_hand(net, x=images().to(dtype)).float())


def test_conditions_are_given_in_the_networks_precision():
    sizes = {"cross_attention_dim": 12, "attention_head_dim": 4, "block_out_channels": (8,), "norm_num_groups": 4, "layers_per_block": 1}
    blocks = {"down_block_types": ("CrossAttnDownBlock2D",), "up_block_types": ("CrossAttnUpBlock2D",)}
    net = diffusers.UNet2DConditionModel(sample_size=8, in_channels=1, out_channels=1, **sizes, **blocks).to(torch.bfloat16).eval()
    text = per_sample_normal(0, "test/text", range(1), (3, 12))
    fixed, given = wrapped(net, conditions={"encoder_hidden_states": text}), wrapped(net)
    with torch.no_grad():
        x, states = images().bfloat16(), text.bfloat16().expand(4, -1, -1)
        expected = net(x, T, states).sample.float()
        assert torch.equal(output(fixed), expected)
        assert torch.equal(given.output(images(), T, encoder_hidden_states=text.expand(4, -1, -1)), expected)


def test_nan_goes_through_as_in_any_denoiser():
    x = images()
    x[0] = float("nan")
    with torch.no_grad():
        found = wrapped(unet()).output(x, T)
    assert found[0].isnan().all()
    assert found[1:].isfinite().all()


def test_a_stored_map_is_the_denoisers_and_a_given_one_goes_before_it():
    net = unet()
    net.register_to_config(condition_map={"type": "e-tsdm", "t_tilde": 100.0, "n": 5})
    assert torch.equal(output(wrapped(net)), by_hand(net, MAPPED))
    assert torch.equal(output(wrapped(net, condition_map="identity")), by_hand(net))


def test_a_stored_map_of_timesteps_is_converted_to_the_schedules_unit():
    net = unet()
    net.register_to_config(condition_map={"type": "shared-intervals", "edges": [0.0, 50.0, 100.0], "representative": "mid"})
    denoiser = wrap(net, schedule="flow", target="flow")
    assert denoiser.condition_map.edges == (0, 0.05, 0.1)
    t = torch.tensor([0.01, 0.06, 0.1, 0.5])
    torch.testing.assert_close(output(denoiser, t), by_hand(net, torch.tensor([25.0, 75.0, 100.0, 500.0])))


@pytest.mark.parametrize("stored", [3, {"type": "none"}, {"type": "e-tsdm", "n": 0}, [1]])
def test_a_stored_value_that_is_no_map_is_refused(stored):
    net = unet()
    net.register_to_config(condition_map=stored)
    with pytest.raises(PartError, match=r"^network\.config\.condition_map: .*, or give condition_map="):
        wrapped(net)


class TestShared:
    """Networks with a map before their timestep, of `etsdm.share_timesteps`."""

    def test_its_map_is_the_denoisers_and_is_applied_once(self):
        net = unet()
        etsdm.share_timesteps(net, 100, 5)
        denoiser = wrapped(net)
        assert (denoiser.condition_map.t_tilde, denoiser.condition_map.n) == (100, 5)
        assert torch.equal(output(denoiser), by_hand(unet(), MAPPED))
        assert torch.equal(denoiser.condition(T), MAPPED)

    def test_another_map_is_refused(self):
        net = unet()
        etsdm.share_timesteps(net, 100, 5)
        with pytest.raises(PartError, match=r"^condition_map: the network applies .*take the map off the network"):
            wrapped(net, condition_map="identity")

    def test_a_map_that_changes_its_own_conditions_is_refused(self):
        net = unet()
        etsdm.share_timesteps(net, condition_map={"type": "shared-intervals", "edges": [0, 20, 40], "representative": "right"})
        with pytest.raises(PartError, match=r"^condition_map: .*changes its own conditions"):
            wrapped(net)

    def test_times_of_flow_matching(self):
        net = unet()
        etsdm.share_timesteps(net, 100, 5)
        denoiser = wrap(net, schedule="flow", target="flow")
        assert denoiser.condition_map.t_tilde == pytest.approx(0.1)
        found = output(denoiser, torch.tensor([0.005, 0.019, 0.05, 0.9]))
        torch.testing.assert_close(found, by_hand(unet(), torch.tensor([0.0, 0.0, 40.0, 900.0])))


def test_wrap_imports_no_diffusers():
    program = """
import sys, torch
from etsdm.interop import wrap
wrap(torch.nn.Identity(), schedule="linear", target="eps", shape=(1, 8, 8))
print("diffusers" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "False\n"


def test_the_backbone_is_external():
    net = unet()
    assert wrapped(net).spec.backbone == wrapped(net).spec.backbone
    assert isinstance(wrapped(net).spec.backbone, External)


@pytest.mark.slow
def test_the_example_runs_in_under_forty_lines_and_agrees_with_the_network(tmp_path):
    file = Path(__file__).parents[2] / "examples" / "wrap_diffusers.py"
    assert len(file.read_text().splitlines()) < 40
    done = subprocess.run([sys.executable, file, tmp_path / "checkpoint"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    difference, *samples, constants = done.stdout.splitlines()
    assert float(difference.rpartition(": ")[2]) == 0
    assert samples == [f"{sampler}: (4, 1, 8, 8)" for sampler in ("ddpm", "ddim", "dpm-solver++-2m")]
    # One condition inside [0, 20), another after its end (paper Eq. 8).
    inside, *others = json.loads(constants.partition(": ")[2])
    assert inside == 0
    assert min(others) > 0
