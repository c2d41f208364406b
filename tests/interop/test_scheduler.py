"""Schedulers that give mapped timesteps to a pipeline and compute with the true ones."""

import copy
import pickle

import diffusers
import pytest
import torch
from networks import unet
from torch import nn

from etsdm.errors import CheckpointError, PartError
from etsdm.interop import share_scheduler, share_timesteps

SCHEDULERS = {
    "ddpm": (diffusers.DDPMScheduler, {}),
    "ddim": (diffusers.DDIMScheduler, {}),
    "pndm": (diffusers.PNDMScheduler, {}),
    "dpm++ 2m": (diffusers.DPMSolverMultistepScheduler, {}),
    "unipc": (diffusers.UniPCMultistepScheduler, {}),
    "euler": (diffusers.EulerDiscreteScheduler, {}),
    "heun": (diffusers.HeunDiscreteScheduler, {}),
    "flow": (diffusers.FlowMatchEulerDiscreteScheduler, {}),
}


class Recorder(nn.Module):
    """A fixed network that keeps the timesteps that it receives."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x, t):
        self.seen.append(float(t))
        return 0.1 * x * torch.cos(torch.as_tensor(t, dtype=torch.float32) / 100)


def f(t):
    return t // 20 * 20 if t < 100 else t


def loop(scheduler, network, steps=60):
    """The denoising loop of a pipeline."""
    scheduler.set_timesteps(steps)
    x = torch.linspace(-1, 1, 64).reshape(1, 1, 8, 8)
    for t in scheduler.timesteps:
        model_input = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        noise = {"generator": torch.Generator().manual_seed(0)} if isinstance(scheduler, diffusers.DDPMScheduler) else {}
        x = scheduler.step(network(model_input, t), t, x, **noise).prev_sample
    return x


def shared_recorder():
    recorder = Recorder()
    share_timesteps(recorder, argument="t", unit="timesteps")
    return recorder


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_loop_is_that_of_a_shared_network_bit_for_bit(name):
    cls, options = SCHEDULERS[name]
    plain, mapped, network = Recorder(), Recorder(), shared_recorder()
    expected = loop(cls(**options), network)
    scheduler = cls(**options)
    sharing = share_scheduler(scheduler)
    assert torch.equal(loop(scheduler, mapped), expected)
    assert torch.equal(loop(scheduler, Recorder()), expected)  # a second time
    loop(cls(**options), plain)
    assert mapped.seen == network.seen == [f(t) for t in plain.seen]
    assert mapped.seen != plain.seen
    sharing.remove()
    assert type(scheduler) is cls
    assert torch.equal(loop(scheduler, Recorder()), loop(cls(**options), Recorder()))
    assert "condition_map" not in scheduler.config


def test_a_pipeline_gives_the_images_of_a_shared_unet():
    model = unet()
    pipeline = diffusers.DDIMPipeline(model, diffusers.DDIMScheduler())
    pipeline.set_progress_bar_config(disable=True)

    def images():
        return torch.from_numpy(pipeline(num_inference_steps=40, generator=torch.Generator().manual_seed(0), output_type="np").images)

    before = images()
    with share_timesteps(model):
        expected = images()
    with share_scheduler(pipeline.scheduler):
        found = images()
    assert torch.equal(found, expected)
    assert not torch.equal(found, before)
    assert torch.equal(images(), before)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda scheduler: pickle.loads(pickle.dumps(scheduler))], ids=["deepcopy", "pickle"])
def test_a_copy_is_shared_too(copied):
    scheduler = diffusers.DDIMScheduler()
    share_scheduler(scheduler)
    recorder = Recorder()
    assert torch.equal(loop(copied(scheduler), recorder), loop(scheduler, Recorder()))
    assert recorder.seen[-1] == 0


def test_the_config_holds_the_map(tmp_path):
    scheduler = diffusers.DDIMScheduler()
    share_scheduler(scheduler, 50, 2)
    scheduler.save_pretrained(tmp_path)
    loaded = diffusers.DDIMScheduler.from_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"DDIMScheduler.*t_tilde=50.*t_tilde=70"):
        share_scheduler(loaded, 70)
    sharing = share_scheduler(loaded)
    assert sharing.timestep_map.condition_map.t_tilde == 50


def test_starting_within_a_sub_interval_needs_the_begin_index():
    # As in image-to-image of low strength: 20 steps of 50, the last two of which share the condition 0.
    scheduler = diffusers.DDIMScheduler(steps_offset=0)
    share_scheduler(scheduler, t_tilde=200, n=2)
    scheduler.set_timesteps(20)
    x = torch.ones(1, 1, 8, 8)
    t = scheduler.timesteps[19]
    assert t == 0
    with pytest.raises(PartError, match=r"timestep.*steps 18 to 19.*set_begin_index"):
        scheduler.step(x, t, x)
    plain = diffusers.EulerDiscreteScheduler()
    shared = diffusers.EulerDiscreteScheduler()
    share_scheduler(shared, t_tilde=200, n=2)
    results = []
    for each in (plain, shared):
        each.set_timesteps(20)
        each.set_begin_index(19)
        t = each.timesteps[19:][0]
        noisy = each.add_noise(x, 2 * x, t[None])
        results += [noisy, each.step(x, t, noisy).prev_sample]
    assert torch.equal(results[0], results[2])
    assert torch.equal(results[1], results[3])


def test_training_draws_its_own_times():
    scheduler, plain = diffusers.DDPMScheduler(), diffusers.DDPMScheduler()
    share_scheduler(scheduler)
    x, noise, t = torch.ones(1000, 1, 1, 1), torch.full((1000, 1, 1, 1), 2.0), torch.arange(1000)
    for _ in range(2):  # before the samples of a preview, and after them
        assert torch.equal(scheduler.add_noise(x, noise, t), plain.add_noise(x, noise, t))
        assert torch.equal(scheduler.get_velocity(x, noise, t), plain.get_velocity(x, noise, t))
        loop(scheduler, Recorder())


@pytest.mark.parametrize(
    ("cls", "options", "unit"),
    [
        (diffusers.FlowMatchEulerDiscreteScheduler, {"invert_sigmas": True}, "reversed-timesteps"),
        (diffusers.FlowMatchEulerDiscreteScheduler, {"invert_sigmas": True, "num_train_timesteps": 1}, "reversed-unit-interval"),
        (diffusers.DDPMScheduler, {}, "timesteps"),
    ],
)
def test_the_unit_is_that_of_the_config(cls, options, unit):
    scheduler = cls(**options)
    assert share_scheduler(scheduler).timestep_map.unit == unit


def test_noise_levels_need_a_map_of_sigma():
    with pytest.raises(PartError, match="noise level"):
        share_scheduler(diffusers.EDMEulerScheduler())
    share_scheduler(diffusers.EDMEulerScheduler(), condition_map="edm-log")


def test_timesteps_that_a_pipeline_writes_back_stay_true():
    scheduler = diffusers.DDIMScheduler()
    share_scheduler(scheduler)
    scheduler.set_timesteps(50)
    true = vars(scheduler)["timesteps"].clone()
    scheduler.timesteps = scheduler.timesteps.float()
    assert torch.equal(vars(scheduler)["timesteps"], true.float())
    scheduler.timesteps = scheduler.timesteps[10:]
    assert torch.equal(vars(scheduler)["timesteps"], true[10:].float())


def test_what_is_no_scheduler_or_shared_is_refused():
    with pytest.raises(PartError, match=r"scheduler.*UNet2DModel.*pipeline\.scheduler"):
        share_scheduler(unet())
    scheduler = diffusers.DDIMScheduler()
    share_scheduler(scheduler)
    with pytest.raises(PartError, match="shared already"):
        share_scheduler(scheduler)
