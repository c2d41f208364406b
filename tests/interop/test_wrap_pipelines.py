"""Pipelines of diffusers in memory and in folders: their images, their parts, and what is refused before anything runs."""

import json
import pickle
import shutil

import diffusers
import pytest
import torch

import etsdm
from etsdm.denoisers.wrappers import ClassifierFreeGuidance
from etsdm.errors import CheckpointError, PartError, StorageError
from etsdm.interop import wrap
from etsdm.interop.autoencoders import first_stage_of
from etsdm.randomness import per_sample_normal
from etsdm.registry import schedules
from etsdm.samplers import DDIM, DDPM

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
N, STEPS = 2, 5
ETSDM = {"type": "e-tsdm", "t_tilde": 300, "n": 3}
BLOCKS = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4}
UNET = {
    **BLOCKS,
    "sample_size": 8,
    "in_channels": 1,
    "out_channels": 1,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
}
VAE = {
    **BLOCKS,
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
    "up_block_types": ("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
    "sample_size": 16,
}
DIT = {
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "num_layers": 1,
    "sample_size": 8,
    "in_channels": 4,
    "patch_size": 2,
    "num_embeds_ada_norm": 1000,
    "out_channels": 8,
}


def seeded(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = make().eval()
    with torch.no_grad():  # so small an output that x0 stays near [-1, 1], where the two programs round alike
        for parameter in getattr(made, "conv_out", torch.nn.Identity()).parameters():
            parameter.mul_(0.1)
    return made


def unet(**changes):
    return seeded(lambda: diffusers.UNet2DModel(**{**UNET, **changes}))


def vae(**changes):
    return seeded(lambda: diffusers.AutoencoderKL(**{**VAE, **changes}))


def start(*shape):
    """The noise that a pipeline draws."""
    return torch.randn(N, *shape, generator=stream())


def stream():
    return torch.Generator().manual_seed(0)


class SameNoise:
    """Draws what a pipeline draws after its first noise."""

    def __init__(self, *shape):
        self.generator = stream()
        torch.randn(N, *shape, generator=self.generator)

    def draw(self, shape):
        return torch.randn(N, *shape, generator=self.generator)


def images_of(denoiser, sampler, noise=None, **cond):
    with torch.no_grad():
        *_, last = sampler.trajectory(denoiser, start(*denoiser.shape), noise, **cond)
    return denoiser.decode(last.x).float() / 2 + 0.5


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert expected.std() > 0.005  # no plain image


@pytest.fixture(scope="module")
def ddim():
    scheduler = diffusers.DDIMScheduler(timestep_spacing="trailing", clip_sample=True)
    pipeline = diffusers.DDIMPipeline(unet(), scheduler)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture
def folder(ddim, tmp_path):
    ddim.save_pretrained(tmp_path / "pipeline")
    return tmp_path / "pipeline"


def pipeline_images(pipeline, **options):
    return pipeline(num_inference_steps=STEPS, generator=stream(), output_type="pt", **options).images


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

    denoiser = wrap(ddim, condition_map=ETSDM)
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


def test_a_folder_gives_the_pipeline(ddim, folder):
    denoiser, x, t = wrap(folder), start(1, 8, 8), torch.tensor([3.0, 700.0])
    with torch.no_grad():
        assert torch.equal(denoiser.output(x, t), ddim.unet(x, t).sample)
    assert not denoiser.training
    assert wrap(str(folder)).spec.schedule == denoiser.schedule


def test_the_folder_of_a_network_alone(ddim, folder):
    x, t = start(1, 8, 8), torch.tensor([3.0, 700.0])
    with torch.no_grad():
        assert torch.equal(wrap(folder / "unet", schedule="linear", target="eps").output(x, t), ddim.unet(x, t).sample)
    with pytest.raises(PartError, match=r"^schedule: is missing"):
        wrap(folder / "unet")


def test_a_map_in_the_config_of_a_saved_network_is_the_denoisers(ddim, tmp_path):
    net = unet()
    net.register_to_config(condition_map={"type": "e-tsdm", "t_tilde": 300.0, "n": 3})
    diffusers.DDIMPipeline(net, ddim.scheduler).save_pretrained(tmp_path / "pipeline")
    found = wrap(tmp_path / "pipeline").condition_map
    assert (found.t_tilde, found.n) == (300, 3)


def dit_pipeline(**changes):
    transformer = seeded(lambda: diffusers.DiTTransformer2DModel(**DIT))
    scheduler = diffusers.DDIMScheduler(timestep_spacing="trailing", clip_sample=False)
    pipeline = diffusers.DiTPipeline(transformer, vae(**changes), scheduler)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


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
    network = seeded(
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


PLAIN = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}


WITHOUT_QUANT = {"use_quant_conv": False, "use_post_quant_conv": False}
SD3 = {**WITHOUT_QUANT, "shift_factor": 0.0609, "scaling_factor": 1.5305}


@pytest.mark.parametrize(
    "changes",
    [{}, PLAIN, {**PLAIN, "mid_block_add_attention": False}, {"shift_factor": 0.1159}, {"use_quant_conv": False}, WITHOUT_QUANT, SD3],
)
def test_first_stages_are_their_autoencoders(changes):
    theirs, images = vae(**changes), per_sample_normal(0, "test/images", range(2), (3, 16, 16)).clamp(-1, 1)
    ours = first_stage_of(theirs, 8)
    scale, shift = changes.get("scaling_factor", 0.18215), changes.get("shift_factor", 0.0)
    with torch.no_grad():
        latent = theirs.encode(images).latent_dist
        z = (latent.mode() - shift) * scale  # of diffusers' pipelines
        torch.testing.assert_close(ours.encode(images), z, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(ours.moments(images).chunk(2, 1)[1].clamp(-30, 20), latent.logvar, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(ours.decode(z), theirs.decode(z / scale + shift).sample, rtol=1e-4, atol=1e-5)
    assert (ours.spec.scale_factor, ours.spec.latent_channels) == (scale, 4)


def test_a_vq_model_is_a_first_stage():
    theirs = seeded(lambda: diffusers.VQModel(**{**VAE, "latent_channels": 3}, num_vq_embeddings=30, vq_embed_dim=5, scaling_factor=1.0))
    images = per_sample_normal(0, "test/images", range(2), (3, 16, 16)).clamp(-1, 1)
    ours = first_stage_of(theirs, 8)
    with torch.no_grad():
        z = theirs.encode(images).latents
        torch.testing.assert_close(ours.encode(images), z, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(ours.decode(z), theirs.decode(z).sample, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("change", [{"act_fn": "relu"}, {"latents_mean": [0.1] * 4}, {"latents_std": [2.0] * 4}])
def test_an_autoencoder_of_another_architecture_is_refused(change):
    with pytest.raises(PartError, match=rf"^first_stage: AutoencoderKL has {next(iter(change))} .*give the network alone to wrap"):
        wrap(dit_pipeline(**change))


def test_an_autoencoder_of_another_class_is_refused():
    widths = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
    tiny = diffusers.AutoencoderTiny(**widths, num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1))
    with pytest.raises(PartError, match=r"^first_stage: found a AutoencoderTiny, none of AutoencoderKL, VQModel"):
        wrap(dit_pipeline().transformer, schedule="linear", target="eps", first_stage=tiny)


def test_latents_without_a_first_stage_are_not_clipped():
    denoiser = wrap(dit_pipeline().transformer, schedule="linear", target="eps")
    samples = etsdm.sample(denoiser, n=2, steps=2, y=torch.tensor([0, 1]))
    assert samples.shape == (2, 4, 8, 8)
    assert samples.abs().max() > 1


class Payload:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return open, (str(self.file), "w")


def test_a_pickle_in_a_folder_is_refused_and_not_run(folder, tmp_path):
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    with pytest.raises(CheckpointError, match=r"unet: holds diffusion_pytorch_model\.bin, a pickle, .*save it with safe_serialization"):
        wrap(folder)
    assert not (tmp_path / "ran").exists()


def test_a_pickle_beside_the_weights_is_not_read(folder, tmp_path):
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    wrap(folder)
    assert not (tmp_path / "ran").exists()


def test_a_pickle_named_as_a_shard_is_refused(folder, tmp_path):
    (folder / "unet" / "shard.bin").write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    index = {"metadata": {}, "weight_map": {"conv_in.weight": "shard.bin"}}
    (folder / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"index\.json: 'shard\.bin' is no safetensors file of the folder"):
        wrap(folder)
    assert not (tmp_path / "ran").exists()


def edit(file, **changes):
    values = json.loads(file.read_text())
    file.write_text(json.dumps({**values, **changes}))


CODE = "import pathlib; pathlib.Path(__file__).with_name('ran').touch()\nclass Own: pass\n"


@pytest.mark.parametrize("change", [{"_class_name": ["own", "Own"]}, {"unet": ["own", "Own"]}, {"scheduler": ["own", "Own"]}])
def test_code_in_a_folder_is_refused_and_not_run(folder, change):
    (folder / "own.py").write_text(CODE)
    (folder / "unet" / "own.py").write_text(CODE)
    edit(folder / "model_index.json", **change)
    with pytest.raises(CheckpointError, match=rf"model_index\.json: {next(iter(change))} "):
        wrap(folder)
    assert not list(folder.rglob("ran"))


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("model_index.json", {"scheduler": [None, None]}, "no unet or transformer with a scheduler"),
        ("model_index.json", {"scheduler": ["diffusers", "UNet2DModel"]}, "'UNet2DModel' is no scheduler"),
        ("model_index.json", {"scheduler": ["diffusers", "NoScheduler"]}, "'NoScheduler' is no class of diffusers"),
        ("unet/config.json", {"_class_name": "UNet1DModel"}, "'UNet1DModel' is none of UNet2DModel"),
        ("unet/config.json", {"quantization_config": {"quant_method": "x"}}, "quantization_config"),
        ("unet/config.json", {"block_out_channels": [8, 24]}, "diffusers cannot load it"),
        ("unet/config.json", {"up_block_types": ["NoBlock"]}, "diffusers cannot load it"),
        ("scheduler/scheduler_config.json", {"beta_schedule": "none"}, "diffusers cannot load it"),
    ],
)
def test_a_damaged_folder_is_refused(folder, file, change, message):
    edit(folder / file, **change)
    with pytest.raises(CheckpointError, match=message):
        wrap(folder)


@pytest.mark.parametrize("file", ["unet/config.json", "scheduler/scheduler_config.json"])
def test_a_missing_or_broken_file_is_named(folder, file):
    (folder / file).write_text("{")
    with pytest.raises(CheckpointError, match=rf"{file.split('/')[1]}: is no JSON object"):
        wrap(folder)
    (folder / file).unlink()
    with pytest.raises(CheckpointError, match=rf"{file.split('/')[1]}: is missing"):
        wrap(folder)


def test_truncated_weights_are_refused(folder):
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"unet: diffusers cannot load it"):
        wrap(folder)


def test_folders_and_ids_that_are_none(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CheckpointError, match=r"holds neither model_index\.json nor config\.json"):
        wrap(tmp_path)
    with pytest.raises(CheckpointError, match=r"^nowhere: is no folder and no id on the Hub"):
        wrap("nowhere")
    (tmp_path / "file").write_text("x")
    with pytest.raises((CheckpointError, StorageError), match="is no folder"):
        wrap(tmp_path / "file")
    with pytest.raises(CheckpointError, match=r"^etsdm-tests/nothing: is no folder here, and cannot be read from the Hub \(.*connection$"):
        wrap("etsdm-tests/nothing")


def test_an_id_in_the_cache_of_the_hub_is_read_without_a_network(folder, tmp_path, monkeypatch):
    snapshot = tmp_path / "hub" / "models--owner--name" / "snapshots" / ("0" * 40)
    shutil.copytree(folder, snapshot)
    refs = tmp_path / "hub" / "models--owner--name" / "refs"
    refs.mkdir()
    (refs / "main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert wrap("owner/name").shape == (1, 8, 8)


def test_a_pipeline_of_further_images_is_refused(folder):
    edit(folder / "model_index.json", _class_name="StableDiffusionInpaintPipeline")
    with pytest.raises(PartError, match=r"^model: the network of StableDiffusionInpaintPipeline receives further images"):
        wrap(folder)


def test_a_map_in_the_config_of_the_scheduler_is_the_denoisers(ddim, folder):
    edit(folder / "scheduler" / "scheduler_config.json", condition_map=ETSDM)
    found = wrap(folder).condition_map
    assert (found.t_tilde, found.n) == (300, 3)
