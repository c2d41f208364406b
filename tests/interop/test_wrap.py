"""A wrapped network like any denoiser: sampled, measured, trained and saved."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import diffusers
import pytest
import torch
from torch import nn
from wrapped_networks import (
    ETSDM,
    MAPPED,
    SHAPE,
    UNET,
    T,
    by_hand,
    images,
    output,
    unet,
    wrapped,
)

import etsdm
from etsdm.analysis import log_likelihood
from etsdm.backbones import External
from etsdm.data import Digits
from etsdm.data.order import SampleOrder
from etsdm.randomness import generator
from etsdm.training import Trainer
from etsdm.training.config import Training

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


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


def test_nan_goes_through_as_in_any_denoiser():
    x = images()
    x[0] = float("nan")
    with torch.no_grad():
        found = wrapped(unet()).output(x, T)
    assert found[0].isnan().all()
    assert found[1:].isfinite().all()


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
