"""Schedulers that give mapped timesteps to a pipeline and compute with the true ones."""

import copy
import inspect
import json
import pickle

import diffusers
import pytest
import torch
from networks import unet
from torch import nn

from etsdm.errors import CheckpointError, PartError
from etsdm.interop import share_scheduler, share_timesteps
from etsdm.interop.scheduler_units import NOT_SHARED, SCHEDULER_UNITS

WITH_TORCHSDE = {"CosineDPMSolverMultistepScheduler", "DPMSolverSDEScheduler"}  # which is not among the test dependencies
# The list of the library, by the classes of the installed diffusers.
NAMES = sorted(name for name in SCHEDULER_UNITS if name not in WITH_TORCHSDE and hasattr(diffusers, name))
NOISE_LEVELS = ("EDMDPMSolverMultistepScheduler", "EDMEulerScheduler")


class Recorder(nn.Module):
    """A fixed network that keeps the timesteps that it receives."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x, t):
        self.seen.append(float(t))
        return 0.1 * x * torch.cos(torch.as_tensor(t, dtype=torch.float32) / 100)


def loop(scheduler, network, steps=50):
    """The denoising loop of the pipelines with a scheduler."""
    scheduler.set_timesteps(steps)
    parameters = inspect.signature(scheduler.step).parameters
    wuerstchen = isinstance(scheduler, diffusers.DDPMWuerstchenScheduler)
    x, old = torch.linspace(-1, 1, 64).reshape(1, 1, 8, 8), None
    times = scheduler.timesteps[:-1] if wuerstchen else scheduler.timesteps
    for i, t in enumerate(times):
        model_input = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        options = {"generator": torch.Generator().manual_seed(i)} if "generator" in parameters else {}
        if "prev_timestep" in parameters:
            options["prev_timestep"] = times[i + 1] if i + 1 < len(times) else None
        if "timestep_back" in parameters:
            options.update(timestep_back=times[i - 1] if i else None, old_pred_original_sample=old)
        t = t.reshape(1) if wuerstchen else t
        result = scheduler.step(model_output=network(model_input, t), timestep=t, sample=x, return_dict=False, **options)
        x, old = result[0], result[-1]
    return x


def shared_recorder(timestep_map):
    recorder = Recorder()
    share_timesteps(recorder, argument="t", unit=timestep_map.unit, condition_map=timestep_map.condition_map)
    return recorder


@pytest.mark.parametrize("name", NAMES)
def test_a_loop_is_that_of_a_shared_network_bit_for_bit(name):
    cls = getattr(diffusers, name)
    scheduler, mapped, plain = cls(), Recorder(), Recorder()
    sharing = share_scheduler(scheduler, **({"condition_map": "edm-log"} if name in NOISE_LEVELS else {"t_tilde": 200, "n": 2}))
    network = shared_recorder(sharing.timestep_map)
    expected = loop(cls(), network)
    assert torch.equal(loop(scheduler, mapped), expected)
    assert torch.equal(loop(scheduler, Recorder()), expected)  # a second time
    assert expected.isfinite().all()
    before = loop(cls(), plain)
    assert mapped.seen == network.seen
    assert mapped.seen != plain.seen
    sharing.remove()
    assert type(scheduler) is cls
    assert torch.equal(loop(scheduler, Recorder()), before)
    assert "condition_map" not in scheduler.config


def test_the_network_receives_the_condition_of_each_step():
    scheduler, recorder = diffusers.DDIMScheduler(), Recorder()
    share_scheduler(scheduler)
    loop(scheduler, recorder, steps=60)
    true = [16 * i for i in reversed(range(60))]
    assert recorder.seen == [t // 20 * 20 if t < 100 else t for t in true]


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


def test_a_saved_pipeline_has_the_classes_of_diffusers(tmp_path):
    model, scheduler = unet(), diffusers.DDIMScheduler()
    share_timesteps(model)
    diffusers.DDIMPipeline(model, scheduler).save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert (index["unet"], index["scheduler"]) == (["diffusers", "UNet2DModel"], ["diffusers", "DDIMScheduler"])
    loaded = diffusers.DDIMPipeline.from_pretrained(tmp_path)
    assert share_timesteps(loaded.unet).condition_map.t_tilde == 100


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


def test_training_goes_on_beside_samples_that_were_broken_off():
    scheduler, plain = diffusers.DDPMScheduler(), diffusers.DDPMScheduler()
    share_scheduler(scheduler)
    scheduler.set_timesteps(60)
    x, noise, t = torch.ones(1000, 1, 1, 1), torch.full((1000, 1, 1, 1), 2.0), torch.arange(1000)
    for i in range(57):
        assert torch.equal(scheduler.add_noise(x, noise, t), plain.add_noise(x, noise, t))
        scheduler.step(x[:1], scheduler.timesteps[i], x[:1])


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
    scheduler.timesteps = scheduler.timesteps[:-2]
    assert torch.equal(vars(scheduler)["timesteps"], true[10:-2].float())


def test_what_is_no_scheduler_or_shared_is_refused():
    with pytest.raises(PartError, match=r"scheduler.*UNet2DModel.*pipeline\.scheduler"):
        share_scheduler(unet())
    scheduler = diffusers.DDIMScheduler()
    share_scheduler(scheduler)
    with pytest.raises(PartError, match="shared already"):
        share_scheduler(scheduler)


@pytest.mark.parametrize("name", NOT_SHARED)
def test_a_scheduler_whose_times_cannot_be_shared_is_refused(name):
    with pytest.raises(PartError, match=rf"scheduler: found a {name}.*share_timesteps on the network"):
        share_scheduler(getattr(diffusers, name)())


def test_a_scheduler_of_an_unknown_class_needs_its_unit():
    cls = type("OwnScheduler", (diffusers.SchedulerMixin, diffusers.ConfigMixin), {"step": None, "set_timesteps": None, "config": {}})
    with pytest.raises(PartError, match=r"unit: .*OwnScheduler is not known.*unit-interval"):
        share_scheduler(cls())
    subclass = type("Finetuned", (diffusers.DDIMScheduler,), {})
    assert share_scheduler(subclass()).timestep_map.unit == "timesteps"


def test_a_tenth_of_the_training_timesteps_is_shared(tmp_path):
    scheduler = diffusers.DDPMScheduler(num_train_timesteps=200)
    sharing = share_scheduler(scheduler)
    assert sharing.timestep_map(torch.tensor([3, 4, 19, 20, 199])).tolist() == [0, 4, 16, 20, 199]
    with pytest.raises(PartError, match=r"t_tilde: 300 is beyond the horizon; give 200"):
        share_scheduler(diffusers.DDPMScheduler(num_train_timesteps=200), 300)
    scheduler.save_pretrained(tmp_path)
    assert share_scheduler(diffusers.DDPMScheduler.from_pretrained(tmp_path)).timestep_map == sharing.timestep_map


def test_a_time_that_is_none_of_the_schedulers_is_refused():
    scheduler, x = diffusers.DDIMScheduler(), torch.zeros(1, 1, 8, 8)
    share_scheduler(scheduler)
    scheduler.set_timesteps(50)
    with pytest.raises(PartError, match=r"timestep: found 39, none of scheduler.timesteps"):
        scheduler.step(x, 39, x)
    scheduler = diffusers.UnCLIPScheduler()
    share_scheduler(scheduler)
    scheduler.set_timesteps(60)
    with pytest.raises(PartError, match=r"prev_timestep: found 900, which is not next to"):
        scheduler.step(x, scheduler.timesteps[0], x, prev_timestep=900)


def test_a_time_that_a_pipeline_cast_to_half_precision_is_found():
    x = torch.full((1, 1, 8, 8), 0.5)
    results = []
    for scheduler in (diffusers.DDPMWuerstchenScheduler(), diffusers.DDPMWuerstchenScheduler()):
        if results:
            share_scheduler(scheduler)
        scheduler.set_timesteps(60)
        true = vars(scheduler)["timesteps"]
        for i in range(57):
            noise = {"generator": torch.Generator().manual_seed(0)}
            given = scheduler.timesteps[i].reshape(1).half() if results else true[i].reshape(1)
            result = scheduler.step(x, given, x, **noise).prev_sample
        results.append(result)
    assert torch.equal(*results)
