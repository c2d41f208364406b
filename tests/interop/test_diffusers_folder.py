"""diffusers, both ways: folders of pipelines, their networks, and images of their own pipelines."""

import json

import pytest
import torch
from foreign import Payload, filled
from small_adm import SMALL

import etsdm
from etsdm.backbones import ADMUNet, LDMUNet
from etsdm.condition_maps import Identity
from etsdm.errors import CheckpointError, IntegrityError, PartError
from etsdm.grids import Leading
from etsdm.interop import Options, convert, export_denoiser, share_timesteps, timestep_sharing, wrap
from etsdm.samplers import DDIM, DDPM

diffusers = pytest.importorskip("diffusers")
pytestmark = pytest.mark.filterwarnings("ignore")

THEIRS = {
    "sample_size": 8,
    "in_channels": 1,
    "out_channels": 1,
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "norm_num_groups": 8,
}

ATTENDING = {"down_block_types": ("AttnDownBlock2D",) * 2, "up_block_types": ("AttnUpBlock2D",) * 2}


def denoiser(condition_map="e-tsdm", schedule="linear", target="eps", kind=ADMUNet, **fields):
    spec = etsdm.DenoiserSpec(
        schedule=schedule, target=target, condition_map=condition_map, backbone=kind(**{**SMALL, "num_head_channels": 8, **fields})
    )
    built = spec.build().eval().requires_grad_(False)
    filled(built.backbone)
    with torch.no_grad():
        for key, weight in built.backbone.named_parameters():
            if key.startswith("time_embed") or "emb_layers" in key:
                weight *= 5  # so that the output depends on the time
    return built


def equal(one, other):
    return all(torch.equal(value, other.state_dict()[key]) for key, value in one.state_dict().items())


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"condition_map": "identity", "schedule": "cosine", "target": "v", "use_new_attention_order": True, "num_classes": 3},
        {"kind": LDMUNet, "schedule": "sd", "resblock_updown": True, "use_scale_shift_norm": True, "num_res_blocks": 2},
        {"schedule": "zero-terminal-snr", "target": "x0", "num_head_channels": None, "num_heads": 1, "time_embed_dim": 24},
    ],
)
def test_a_denoiser_comes_back_from_diffusers_bit_by_bit(tmp_path, parts):
    ours = denoiser(**parts)
    assert export_denoiser(ours, tmp_path / "out", "diffusers").left_out == []
    report = convert("diffusers", tmp_path / "out", tmp_path / "back")
    back = etsdm.load(tmp_path / "back")
    assert back.spec == ours.spec
    assert equal(ours.backbone, back.backbone)
    assert report.parity["largest_difference"] < 1e-5 * report.parity["output_rms"]
    assert "scheduler/scheduler_config.json" in report.files
    cond = {"y": torch.tensor([1, 2])} if parts.get("num_classes") else {}
    torch.testing.assert_close(etsdm.sample(back, 2, steps=4, **cond), etsdm.sample(ours, 2, steps=4, **cond), atol=1e-5, rtol=0)


@pytest.mark.parametrize("condition_map", ["e-tsdm", "identity"])
def test_their_pipelines_give_our_images(tmp_path, condition_map):
    ours = denoiser(condition_map)
    export_denoiser(ours, tmp_path / "out", "diffusers")
    pipeline = diffusers.DDIMPipeline.from_pretrained(tmp_path / "out")
    pipeline.set_progress_bar_config(disable=True)
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    for t in (0, 37, 99, 500):
        torch.testing.assert_close(pipeline.unet(x, torch.tensor(t)).sample, ours.output(x, float(t)), atol=1e-5, rtol=1e-4)
    # eps is computed again from the clipped image, as in `etsdm.sample`
    images = pipeline(2, torch.Generator().manual_seed(1), num_inference_steps=50, output_type="pt", use_clipped_model_output=True).images
    *_, last = DDIM(steps=50, grid=Leading()).trajectory(ours, x)
    torch.testing.assert_close(images, ours.decode(last.x) / 2 + 0.5, atol=1e-4, rtol=0)

    class SameNoise:
        stream = torch.Generator().manual_seed(2)

        def draw(self, shape):
            return torch.randn(2, *shape, generator=self.stream)

    first = SameNoise()
    noise = first.draw((1, 8, 8))
    *_, last = DDPM(steps=20, grid=Leading()).trajectory(ours, noise, first)
    pipeline = diffusers.DDPMPipeline.from_pretrained(tmp_path / "out")
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(2, torch.Generator().manual_seed(2), num_inference_steps=20, output_type="pt").images
    torch.testing.assert_close(images, ours.decode(last.x) / 2 + 0.5, atol=1e-4, rtol=0)


def test_the_condition_map_acts_in_their_network_and_stays(tmp_path):
    ours = denoiser("e-tsdm")
    export_denoiser(ours, tmp_path / "out", "diffusers")
    unet = diffusers.UNet2DModel.from_pretrained(tmp_path / "out" / "unet")
    x = torch.ones(1, 1, 8, 8)

    def at(network, t):
        return network(x, torch.tensor(t)).sample

    plain = etsdm.DenoiserSpec(**{**dict(ours.spec), "condition_map": Identity()})
    assert torch.equal(at(unet, 20), at(unet, 39))
    assert not torch.equal(at(unet, 39), at(unet, 40))
    assert (at(unet, 39) - type(ours)(plain, ours.backbone).output(x, 39.0)).abs().max() > 1e-4
    unet.save_pretrained(tmp_path / "again")
    again = diffusers.UNet2DModel.from_pretrained(tmp_path / "again")
    assert torch.equal(at(again, 39), at(unet, 39))
    assert json.loads((tmp_path / "again" / "config.json").read_text())["condition_map"]["type"] == "e-tsdm"
    assert "e-tsdm" in (tmp_path / "out" / "README.md").read_text()
    unet.time_proj.weight.data += 1
    unet.save_pretrained(tmp_path / "out" / "unet")
    with pytest.raises(CheckpointError, match=r"time_proj\.weight: was trained, or belongs to another condition map"):
        convert("diffusers", tmp_path / "out", tmp_path / "back")


def test_a_map_in_the_time_embedding_is_not_applied_again(tmp_path):
    ours = denoiser("e-tsdm")
    export_denoiser(ours, tmp_path / "out", "diffusers")
    unet = diffusers.UNet2DModel.from_pretrained(tmp_path / "out" / "unet")
    assert timestep_sharing(unet) is None
    with pytest.raises(PartError, match=r"^model: .*time embedding holds the condition map of its config already"):
        share_timesteps(unet)
    x, t = torch.ones(4, 1, 8, 8), torch.tensor([0, 39, 99, 500])
    for model in (tmp_path / "out", unet):
        wrapped = wrap(model) if model is not unet else wrap(unet, schedule="linear", target="eps")
        assert wrapped.condition_map == ours.condition_map
        torch.testing.assert_close(wrapped.output(x, t), ours.output(x, t), rtol=1e-4, atol=1e-5)
    with pytest.raises(PartError, match=r"^condition_map: the network applies .*another map than this denoiser's"):
        wrap(unet, schedule="linear", target="eps", condition_map="identity")


@pytest.fixture
def pipeline(tmp_path):
    """Saves a pipeline of diffusers: (network, folder)."""

    def make(scheduler=None, shards=False, safe=True, dtype=torch.float32, **changes):
        network = filled(diffusers.UNet2DModel(**{**THEIRS, **changes})).to(dtype)
        made = diffusers.DDPMPipeline(network, scheduler or diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2"))
        made.save_pretrained(tmp_path / "theirs", safe_serialization=safe, **({"max_shard_size": "40KB"} if shards else {}))
        return network, tmp_path / "theirs"

    return make


@pytest.mark.parametrize("options", [{}, {"shards": True}, {"safe": False}, {"dtype": torch.float16}])
def test_a_pipeline_of_diffusers_becomes_a_denoiser(pipeline, tmp_path, options):
    network, folder = pipeline(diffusers.DDIMScheduler(prediction_type="v_prediction", beta_end=0.015), **options)
    report = convert("diffusers", folder, tmp_path / "out", Options(model={"condition_map": "e-tsdm"}))
    found = etsdm.load(tmp_path / "out")
    assert (found.schedule.beta_end, found.target.type_name) == (0.015, "v")
    x, t = torch.ones(1, 1, 8, 8), torch.tensor([39.0])
    torch.testing.assert_close(found.output(x, t), network.float()(x, torch.tensor([20.0])).sample, atol=1e-5, rtol=1e-4)
    assert report.used["middle_block.1.qkv.weight"].count("mid_block.attentions.0.to_") == 3
    if options.get("shards"):
        assert len(report.files) > 3
    if options.get("dtype"):
        assert list(report.dtypes) == ["float16"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"freq_shift": 1, "flip_sin_to_cos": False}, r"unet/config\.json: flip_sin_to_cos: False has no counterpart.*etsdm\.wrap"),
        ({"norm_eps": 1e-6}, r"norm_eps: 1e-06 has no counterpart"),
        ({"time_embedding_type": "fourier"}, r"time_embedding_type: 'fourier' has no counterpart"),
        ({"up_block_types": ("UpBlock2D", "UpBlock2D")}, r"up_block_types: .*are not those of down_block_types"),
        (
            {"downsample_type": "resnet", "down_block_types": ("AttnDownBlock2D",) * 2, "up_block_types": ("AttnUpBlock2D",) * 2},
            r"one kind of",
        ),
        ({"resnet_time_scale_shift": "scale_shift"}, r"attn_norm_num_groups: None is another norm in the middle"),
        ({"attention_head_dim": 12}, r"num_head_channels: 12 does not divide"),
    ],
)
def test_networks_without_counterpart_are_refused_with_the_way(pipeline, tmp_path, changes, message):
    _, folder = pipeline(**changes)
    with pytest.raises(CheckpointError, match=message):
        convert("diffusers", folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def changed(file, **values):
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_a_map_in_the_config_of_a_plain_network_is_that_of_the_denoiser(pipeline, tmp_path):
    _, folder = pipeline()
    changed(folder / "unet" / "config.json", condition_map={"type": "e-tsdm", "t_tilde": 60, "n": 3})
    convert("diffusers", folder, tmp_path / "out")
    found = etsdm.load(tmp_path / "out")
    assert found.condition(torch.tensor([19.0, 20.0, 61.0])).tolist() == [0.0, 20.0, 61.0]


def test_files_of_a_pipeline_are_checked(pipeline, tmp_path):
    _, folder = pipeline()
    scheduler, unet, index = folder / "scheduler" / "scheduler_config.json", folder / "unet" / "config.json", folder / "model_index.json"
    cases = [
        (scheduler, {"beta_schedule": "sigmoid"}, r"scheduler_config\.json: schedule: alpha_bar from .* is neither linear"),
        (scheduler, {"_class_name": "FlowMatchEulerDiscreteScheduler"}, r"is no scheduler of an alpha_bar from betas.*etsdm\.wrap"),
        (scheduler, {"prediction_type": "flow"}, r"prediction_type: 'flow' is unknown"),
        (scheduler, {"num_train_timesteps": 10**12}, r"num_train_timesteps: 1000000000000 is no number of timesteps"),
        (scheduler, {"beta_schedule": "x"}, r"diffusers cannot make it"),
        (unet, {"_class_name": "UNet2DConditionModel"}, r"_class_name: 'UNet2DConditionModel' has no counterpart.*etsdm\.wrap"),
        (unet, {"layers_per_block": 2}, r"does not fit backbone 'adm-unet': \d+ keys missing"),
        (unet, {"block_out_channels": "x"}, r"config\.json: "),
        (unet, {"unknown": 1}, r"'unknown' is no key of UNet2DModel"),
        (unet, {"condition_map": {"type": "os.system"}}, r"condition_map: unknown condition map"),
        (unet, {"etsdm_backbone": {**ADMUNet(**SMALL).model_dump(mode="json"), "num_res_blocks": 2}}, r"is another network than"),
        (index, {"vae": ["diffusers", "AutoencoderKL"]}, r"vae: a pipeline of more than unet and scheduler.*etsdm\.wrap"),
    ]
    for file, values, message in cases:
        before = file.read_text()
        changed(file, **values)
        with pytest.raises(CheckpointError, match=message):
            convert("diffusers", folder, tmp_path / "out")
        file.write_text(before)
    convert("diffusers", folder / "unet", tmp_path / "alone", Options(model={"schedule": "linear"}))
    with pytest.raises(CheckpointError, match=r"schedule: not in the file"):
        convert("diffusers", folder / "unet", tmp_path / "out")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(IntegrityError, match=r"diffusion_pytorch_model\.safetensors: is a damaged safetensors file"):
        convert("diffusers", folder, tmp_path / "out")
    weights.unlink()
    torch.save({"w": Payload(tmp_path / "ran")}, weights.with_suffix(".bin"))
    with pytest.raises(IntegrityError, match=r"diffusion_pytorch_model\.bin: its pickle asks for"):
        convert("diffusers", folder, tmp_path / "out")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"kind": LDMUNet, "use_spatial_transformer": True, "context_dim": 4}, r"to diffusers: use_spatial_transformer: "),
        ({"conv_resample": False}, r"to diffusers: conv_resample: UNet2DModel always resamples by convolutions"),
        ({"out_channels": 2}, r"to diffusers: backbone\.out_channels: a learned variance"),
        ({"schedule": "linear-continuous", "condition_map": "identity"}, r"to diffusers: schedule: 'linear-continuous' is continuous"),
        ({"target": "score"}, r"to diffusers: target: 'score' is unknown to diffusers"),
        ({"num_head_channels": None, "num_heads": 2, "attention_resolutions": (1, 2)}, r"to diffusers: num_heads: heads of 8, 16 channels"),
    ],
)
def test_what_diffusers_does_not_have_is_refused(tmp_path, parts, message):
    with pytest.raises(CheckpointError, match=message):
        export_denoiser(denoiser(**parts), tmp_path / "out", "diffusers")
    assert not (tmp_path / "out").exists()
