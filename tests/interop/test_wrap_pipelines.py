"""Pipelines of diffusers: the images of their denoisers are theirs."""

import json

import diffusers
import pytest
import torch
from wrapped_networks import BLOCKS
from wrapped_pipelines import STEPS, N, SameNoise, close, ddim_pipeline, dit_pipeline, images_of, pipeline_images, small, start, unet, vae

import etsdm
from etsdm.denoisers.wrappers import ClassifierFreeGuidance
from etsdm.errors import PartError
from etsdm.interop import wrap
from etsdm.randomness import per_sample_normal
from etsdm.registry import schedules
from etsdm.samplers import DDIM, DDPM

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
SHARED = {"type": "e-tsdm", "t_tilde": 300, "n": 3}


@pytest.fixture
def ddim():
    return ddim_pipeline()


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_images_of_a_ddim_pipeline(kind, eta):
    beta_schedule = "linear" if kind == "epsilon" else "squaredcos_cap_v2"
    config = {"timestep_spacing": "trailing", "prediction_type": kind, "beta_schedule": beta_schedule}
    pipeline = diffusers.DDIMPipeline(unet(), diffusers.DDIMScheduler(**config))
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline_images(pipeline, batch_size=N, eta=eta, use_clipped_model_output=True)
    sampler = DDIM(steps=STEPS, grid="trailing", eta=eta, clip_x0=True)
    close(images_of(wrap(pipeline), sampler, SameNoise(1, 8, 8)), theirs)


@pytest.mark.parametrize("scheduled", [{}, {"beta_schedule": "scaled_linear"}])
def test_images_of_a_ddpm_pipeline(scheduled):
    scheduler = diffusers.DDPMScheduler(**scheduled, variance_type="fixed_large", timestep_spacing="leading")
    pipeline = diffusers.DDPMPipeline(unet(), scheduler)
    pipeline.set_progress_bar_config(disable=True)
    sampler = DDPM(steps=STEPS, grid="leading", variance="beta", clip_x0=True)
    close(images_of(wrap(pipeline), sampler, SameNoise(1, 8, 8)), pipeline_images(pipeline, batch_size=N))


def test_images_under_a_condition_map_are_those_of_the_network_at_mapped_timesteps(ddim):
    def shared(x, t):
        return ddim.unet(x, torch.tensor([0, 100, 200])[t // 100] if t < 300 else t)

    denoiser = wrap(ddim, condition_map=SHARED)
    x, theirs = start(1, 8, 8), ddim.scheduler
    theirs.set_timesteps(STEPS)
    with torch.no_grad():
        for t in theirs.timesteps:
            x = theirs.step(shared(x, t).sample, t, x, use_clipped_model_output=True).prev_sample
    sampler = DDIM(steps=STEPS, grid="trailing", clip_x0=True)
    found = images_of(denoiser, sampler)
    close(found, (x / 2 + 0.5).clamp(0, 1))
    assert not torch.equal(found, images_of(wrap(ddim), sampler))


def test_a_schedule_and_a_target_can_be_given_in_place_of_the_schedulers(ddim):
    scheduler = diffusers.DDPMScheduler(beta_schedule="sigmoid")
    pipeline = diffusers.DDPMPipeline(ddim.unet, scheduler)
    with pytest.raises(PartError, match=r"^schedule: the alphas_cumprod of DDPMScheduler"):
        wrap(pipeline)
    assert wrap(pipeline, schedule="cosine", target="v").schedule.type_name == "cosine"


def test_a_scheduler_can_be_given_with_a_network(ddim):
    scheduler = diffusers.DDIMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")
    denoiser = wrap(ddim.unet, schedule=scheduler)
    assert (denoiser.schedule.type_name, denoiser.target.type_name) == ("cosine", "v")
    assert wrap(ddim, schedule=scheduler).spec == denoiser.spec
    assert wrap(ddim.unet, schedule=scheduler, target="eps").target.type_name == "eps"


def test_images_of_a_dit_pipeline():
    pipeline = dit_pipeline()
    theirs = pipeline_images(pipeline, class_labels=[3, 7], guidance_scale=1.0)
    denoiser = wrap(pipeline)
    assert (denoiser.shape, denoiser.spec.image_shape, denoiser.num_classes) == ((4, 8, 8), (3, 16, 16), 1001)
    assert denoiser.learns_variance
    close(images_of(denoiser, DDIM(steps=STEPS, grid="trailing"), y=torch.tensor([3, 7])), theirs)


def test_images_of_a_dit_pipeline_with_guidance():
    pipeline = dit_pipeline()
    theirs = pipeline_images(pipeline, class_labels=[3, 7], guidance_scale=2.0)
    guided = ClassifierFreeGuidance(wrap(pipeline), 2.0)
    close(images_of(guided, DDIM(steps=STEPS, grid="trailing"), y=torch.tensor([3, 7])), theirs)


def test_a_latent_pipeline_is_saved_with_its_first_stage(tmp_path):
    pipeline = dit_pipeline()
    pipeline.save_pretrained(tmp_path / "pipeline")
    denoiser = wrap(tmp_path / "pipeline")
    etsdm.save(denoiser, tmp_path / "saved")
    found = etsdm.load(tmp_path / "saved", backbone=pipeline.transformer)
    y = torch.tensor([3, 7])
    assert torch.equal(etsdm.sample(found, n=2, steps=2, y=y), etsdm.sample(denoiser, n=2, steps=2, y=y))


def text_pipeline(folder):
    """The folder of Stable Diffusion, as far as it is read: without tokenizer, text encoder and safety checker."""
    network = small(
        lambda: diffusers.UNet2DConditionModel(
            **BLOCKS,
            sample_size=8,
            cross_attention_dim=12,
            attention_head_dim=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        )
    )
    sd = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    parts = {"unet": network, "scheduler": diffusers.DDIMScheduler(**sd, clip_sample=False, timestep_spacing="trailing"), "vae": vae()}
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    index = {name: ["diffusers", type(part).__name__] for name, part in parts.items()}
    others = {
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "safety_checker": [None] * 2,
    }
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline", **index, **others}))
    return parts


def test_images_of_stable_diffusion(tmp_path):
    parts, text = text_pipeline(tmp_path), per_sample_normal(0, "test/text", range(1), (3, 12))
    scheduler, x = parts["scheduler"], start(4, 8, 8)
    scheduler.set_timesteps(STEPS)
    with torch.no_grad():
        for t in scheduler.timesteps:
            x = scheduler.step(parts["unet"](x, t, text.expand(N, -1, -1)).sample, t, x).prev_sample
        theirs = (parts["vae"].decode(x / 0.18215).sample / 2 + 0.5).clamp(0, 1)
    denoiser = wrap(tmp_path, conditions={"encoder_hidden_states": text})
    assert denoiser.schedule == schedules.create("sd")
    assert denoiser.spec.first_stage.scale_factor == 0.18215
    close(images_of(denoiser, DDIM(steps=STEPS, grid="trailing")), theirs)
    assert etsdm.sample(denoiser, n=2, steps=2).shape == (2, 3, 16, 16)


def test_latents_without_a_first_stage_are_not_clipped():
    denoiser = wrap(dit_pipeline().transformer, schedule="linear", target="eps")
    samples = etsdm.sample(denoiser, n=2, steps=2, y=torch.tensor([0, 1]))
    assert samples.shape == (2, 4, 8, 8)
    assert samples.abs().max() > 1
