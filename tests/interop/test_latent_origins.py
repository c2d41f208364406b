"""Checkpoints of latent-diffusion and DiT: parts, moving averages and first stages."""

from argparse import Namespace

import pytest
import torch
from foreign import filled

import etsdm
from etsdm.backbones import LDMUNet
from etsdm.backbones.dit import DiT
from etsdm.backbones.first_stages.kl import KLAutoencoder
from etsdm.backbones.first_stages.vq import VQAutoencoder
from etsdm.errors import CheckpointError
from etsdm.interop import Options, convert
from etsdm.schedules import Linear, Quadratic

UNET = LDMUNet(
    image_size=8,
    in_channels=2,
    out_channels=2,
    model_channels=16,
    num_res_blocks=1,
    attention_resolutions=(2,),
    channel_mult=(1, 2),
    num_head_channels=8,
    norm_groups=8,
)
STAGE = {"resolution": 16, "in_channels": 1, "out_ch": 1, "ch": 8, "ch_mult": (1, 2), "num_res_blocks": 1, "attn_resolutions": (8,)}
STAGE |= {"z_channels": 2, "embed_dim": 2, "norm_groups": 4}
GIVEN = {"backbone": {"image_size": 8, "num_head_channels": 8, "norm_groups": 8}, "first_stage": {"norm_groups": 4}}
DIT = DiT(image_size=8, in_channels=2, out_channels=4, patch_size=2, hidden_size=24, depth=2, num_heads=3, num_classes=4)


def ldm(unet=UNET, stage=None, label_rows=None):
    """A Lightning checkpoint: (file, averaged UNet, current UNet, first stage)."""
    averaged, current = filled(unet.build(), 1), filled(unet.build(), 2)
    first_stage = filled((stage or KLAutoencoder(**STAGE)).build(), 3)
    state = {f"model.diffusion_model.{key}": value for key, value in current.state_dict().items()}
    state |= {"model_ema." + f"diffusion_model.{key}".replace(".", ""): value for key, value in averaged.state_dict().items()}
    state |= {f"first_stage_model.{key}": value for key, value in first_stage.state_dict().items()}
    state |= {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(7), "scale_factor": torch.tensor(0.25)}
    state |= {"first_stage_model.loss.logvar": torch.zeros(1), "logvar": torch.zeros(1000)}
    schedule = Quadratic(beta_start=0.0015, beta_end=0.0195)
    state |= {"betas": schedule.betas.float(), "alphas_cumprod": schedule.alpha_bar(torch.arange(1000)).float()}
    if label_rows:
        state["cond_stage_model.embedding.weight"] = torch.arange(6.0 * label_rows).reshape(label_rows, 6) / 10
    return {"state_dict": state, "global_step": 5, "hyper_parameters": {"lr": 1e-4}}, averaged, current, first_stage


def equal(network, expected):
    return all(torch.equal(value, network.state_dict()[key]) for key, value in expected.state_dict().items())


def test_a_latent_diffusion_checkpoint_gives_average_first_stage_schedule_and_scale(tmp_path):
    file, averaged, _, stage = ldm()
    torch.save(file, tmp_path / "model.ckpt")
    report = convert("ldm", tmp_path / "model.ckpt", tmp_path / "out", Options(model=GIVEN))
    found = etsdm.load(tmp_path / "out")
    assert found.spec.backbone == UNET
    assert found.spec.first_stage == KLAutoencoder(**STAGE, scale_factor=0.25)
    assert found.schedule == Quadratic(beta_start=0.0015, beta_end=0.0195)
    assert equal(found.backbone, averaged)
    assert equal(found.first_stage, stage)
    assert report.weights_are == "ema"
    assert report.used["out.2.bias"] == "model_ema.diffusion_modelout2bias"
    assert report.used["first_stage.quant_conv.bias"] == "first_stage_model.quant_conv.bias"
    held = set(file["state_dict"]) - {"alphas_cumprod", "betas"}
    assert held <= {*report.used.values(), *report.ignored}
    assert report.ignored["model_ema.num_updates"] == "counter of the moving average"


def test_current_weights_and_a_vq_stage_in_a_file_of_its_own(tmp_path):
    spec = VQAutoencoder(**{**STAGE, "attn_type": "none", "attn_resolutions": ()}, n_embed=11)
    file, _, current, stage = ldm(stage=spec)
    own = {key.removeprefix("first_stage_model."): file["state_dict"].pop(key) for key in list(file["state_dict"]) if "first_stage" in key}
    torch.save(file, tmp_path / "model.ckpt")
    torch.save({"state_dict": own}, tmp_path / "vq.ckpt")
    with pytest.raises(CheckpointError, match=r"model\.ckpt: has no first stage; give --first-stage FILE"):
        convert("ldm", tmp_path / "model.ckpt", tmp_path / "out", Options(model={"backbone": GIVEN["backbone"]}, weights="current"))
    options = Options(model=GIVEN, weights="current", first_stage=tmp_path / "vq.ckpt")
    report = convert("ldm", tmp_path / "model.ckpt", tmp_path / "out", options)
    found = etsdm.load(tmp_path / "out")
    assert found.spec.first_stage.n_embed == 11
    assert equal(found.backbone, current)
    assert equal(found.first_stage, stage)
    assert report.weights_are == "current"
    assert sorted(report.files) == ["model.ckpt", "vq.ckpt"]


def test_an_embedding_of_labels_becomes_part_of_the_network(tmp_path):
    unet = LDMUNet(**{**UNET.model_dump(exclude={"type"}), "use_spatial_transformer": True, "context_dim": 6})
    file, averaged, _, _ = ldm(unet, label_rows=5)
    torch.save(file, tmp_path / "model.ckpt")
    convert("ldm", tmp_path / "model.ckpt", tmp_path / "out", Options(model=GIVEN))
    found = etsdm.load(tmp_path / "out")
    assert found.num_classes == 5
    table = file["state_dict"]["cond_stage_model.embedding.weight"]
    x, t, y = torch.ones(1, 2, 8, 8), torch.tensor([3.0]), torch.tensor([4])
    assert torch.equal(found.output(x, t, y=y), averaged(x, t, context=table[None, 4:5]))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model_ema.diffusion_modelout2bias", None, r"'model_ema\.diffusion_modelout2bias' is missing in its moving average"),
        ("model_ema.diffusion_modelx", torch.ones(1), r"'model_ema\.diffusion_modelx' is of no weight of the UNet"),
        ("lora.weight", torch.ones(1), r"key 'lora\.weight' is of no part of latent diffusion"),
        ("first_stage_model.encoder.conv_out.bias", None, r"does not fit first stage 'kl': 1 keys missing \(encoder\.conv_out\.bias\)"),
        ("first_stage_model.decoder.conv_in.weight", None, r"is no first stage of latent diffusion: key 'decoder\.conv_in\.weight'"),
        ("alphas_cumprod", torch.linspace(0.99, 0.01, 1000), r"alphas_cumprod: schedule: alpha_bar from 0\.99 to 0\.01 in 1000"),
    ],
)
def test_odd_keys_of_latent_diffusion_are_named(tmp_path, key, value, message):
    file = ldm()[0]
    file["state_dict"].pop(key, None)
    if value is not None:
        file["state_dict"][key] = value
    torch.save(file, tmp_path / "model.ckpt")
    with pytest.raises(CheckpointError, match=rf"model\.ckpt: {message}"):
        convert("ldm", tmp_path / "model.ckpt", tmp_path / "out", Options(model=GIVEN))
    assert not (tmp_path / "out").exists()


def test_dit_is_found_in_its_shapes_with_average_or_current_weights(tmp_path):
    averaged, current, stage = filled(DIT.build(), 1), filled(DIT.build(), 2), filled(KLAutoencoder(**STAGE).build(), 3)
    file = {"model": current.state_dict(), "ema": averaged.state_dict(), "opt": {"state": {}}, "args": Namespace(model="DiT")}
    torch.save(file, tmp_path / "0400000.pt")
    torch.save({"state_dict": dict(stage.state_dict())}, tmp_path / "kl.ckpt")
    model = {"backbone": {"num_heads": 3}, "first_stage": {"norm_groups": 4}}
    for weights, expected in (("ema", averaged), ("current", current)):
        options = Options(model=model, weights=weights, first_stage=tmp_path / "kl.ckpt")
        report = convert("dit", tmp_path / "0400000.pt", tmp_path / weights, options)
        found = etsdm.load(tmp_path / weights)
        assert found.spec.backbone == DIT
        assert found.spec.first_stage.scale_factor == 0.18215
        assert found.schedule == Linear()
        assert found.learns_variance
        assert equal(found.backbone, expected)
        assert equal(found.first_stage, stage)
        assert report.weights_are == weights
        assert report.ignored.keys() == {"model", "ema", "opt", "args"} - {"ema" if weights == "ema" else "model"}


def test_a_plain_dit_needs_its_heads_and_a_first_stage_or_none(tmp_path):
    network = filled(DIT.build())
    torch.save(network.state_dict(), tmp_path / "dit.pt")
    with pytest.raises(CheckpointError, match=r"dit\.pt: backbone\.num_heads: not in the file.*give backbone\.num_heads=6"):
        convert("dit", tmp_path / "dit.pt", tmp_path / "out")
    with pytest.raises(CheckpointError, match=r"dit\.pt: denoises latents; give --first-stage FILE"):
        convert("dit", tmp_path / "dit.pt", tmp_path / "out", Options(model={"backbone": {"num_heads": 3}}))
    convert("dit", tmp_path / "dit.pt", tmp_path / "out", Options(model={"backbone": {"num_heads": 3}, "first_stage": None}))
    assert equal(etsdm.load(tmp_path / "out").backbone, network)
    torch.save({"model": {}, "ema": {}, "weights": {}}, tmp_path / "odd.pt")
    with pytest.raises(CheckpointError, match=r"odd\.pt: 'weights' is no part of a checkpoint of DiT's training"):
        convert("dit", tmp_path / "odd.pt", tmp_path / "out2")
    torch.save({"w": torch.ones(1)}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=r"other\.pt: is no DiT: key 'x_embedder\.proj\.weight' is missing"):
        convert("dit", tmp_path / "other.pt", tmp_path / "out2")
