"""A denoiser of latents: what its first stage makes of images, and both on disk."""

import json

import pytest
import torch
from pydantic import ValidationError
from sealing import edit

from etsdm.checkpoints.format import DENOISER_FILE, load_first_stage, read_checkpoint, write_denoiser
from etsdm.data import Digits
from etsdm.errors import CheckpointError, IntegrityError
from etsdm.randomness import generator, per_sample_normal, seeded_global_rng
from etsdm.registry import format_errors
from etsdm.storage.files import atomic_folder, sha256_of
from etsdm.storage.tensors import TensorFile, read_tensors, write_tensors
from etsdm.training import Trainer
from etsdm.training.config import Training

AUTOENCODER = {
    "resolution": 8,
    "in_channels": 1,
    "out_ch": 1,
    "ch": 8,
    "ch_mult": (1, 2),
    "num_res_blocks": 1,
    "attn_resolutions": (),
    "z_channels": 2,
    "norm_groups": 4,
    "scale_factor": 0.18215,
}
VQ = {"type": "vq", "n_embed": 16, **AUTOENCODER}
KL = {"type": "kl", **AUTOENCODER}
LATENT = {"image_size": 4, "in_channels": 2, "out_channels": 2}  # what it makes of 8x8 pixels
IMAGES = per_sample_normal(0, "test/images", range(3), (1, 8, 8)).clamp(-1, 1)
LABELS = torch.tensor([1, 2, 3])
T = torch.tensor([7.0, 59.0, 400.0], dtype=torch.float64)


@pytest.fixture(scope="module")
def denoiser(tiny_denoiser):
    return tiny_denoiser(backbone=LATENT, first_stage=VQ, condition_map="e-tsdm")


@pytest.fixture
def folder(tmp_path, denoiser):
    """A checkpoint with a first stage."""
    with atomic_folder(tmp_path / "checkpoint") as folder:
        write_denoiser(folder, denoiser, denoiser.backbone.state_dict(), weights_are="ema", images_seen=512)
    return tmp_path / "checkpoint"


def refused(error, folder):
    with pytest.raises(error) as found:
        read_checkpoint(folder)
    return str(found.value)


@pytest.mark.parametrize("first_stage", [VQ, KL])
def test_a_first_stage_makes_latents_of_images_and_images_of_latents(tiny_denoiser, first_stage):
    denoiser = tiny_denoiser(backbone=LATENT, first_stage=first_stage)
    assert (denoiser.shape, denoiser.spec.image_shape) == ((2, 4, 4), (1, 8, 8))
    assert not denoiser.bounded
    assert not denoiser.spec.bounded
    latents = denoiser.encode(IMAGES)
    assert latents.shape == (3, 2, 4, 4)
    assert denoiser.predict(latents, T).x0.shape == (3, 2, 4, 4)
    decoded = denoiser.decode(latents)
    assert decoded.shape == (3, 1, 8, 8)
    torch.testing.assert_close(denoiser.decode(latents, chunk=2), decoded, rtol=1e-5, atol=1e-6)
    assert not latents.requires_grad
    assert not decoded.requires_grad


def test_latents_of_a_codebook_are_the_scaled_output_of_the_encoder(tiny_denoiser):
    # z = s E(x) before quantisation, which is the decoder's first layer (Rombach et al. 2022).
    denoiser = tiny_denoiser(backbone=LATENT, first_stage=VQ)
    network = denoiser.first_stage
    encoded = network.quant_conv(network.encoder(IMAGES))
    torch.testing.assert_close(denoiser.encode(IMAGES), 0.18215 * encoded)
    assert torch.equal(denoiser.encode(IMAGES, generator(0, "test/latents")), denoiser.encode(IMAGES))
    nearest = torch.cdist(encoded.permute(0, 2, 3, 1), network.quantize.embedding.weight).argmin(-1)
    entries = network.quantize.embedding.weight[nearest].permute(0, 3, 1, 2)
    decoded = network.decoder(network.post_quant_conv(entries))
    torch.testing.assert_close(denoiser.decode(0.18215 * encoded), decoded.clamp(-1, 1))  # as a picture is


def test_latents_of_a_distribution_are_its_means_or_drawn_from_a_generator(tiny_denoiser):
    denoiser = tiny_denoiser(backbone=LATENT, first_stage=KL)
    network = denoiser.first_stage
    mean, log_variance = network.quant_conv(network.encoder(IMAGES)).chunk(2, dim=1)
    torch.testing.assert_close(denoiser.encode(IMAGES), 0.18215 * mean)
    noise = torch.randn(mean.shape, generator=generator(0, "test/latents"))
    drawn = denoiser.encode(IMAGES, generator(0, "test/latents"))
    torch.testing.assert_close(drawn, 0.18215 * (mean + (log_variance / 2).exp() * noise))
    assert not torch.equal(denoiser.encode(IMAGES, generator(1, "test/latents")), drawn)


def test_a_denoiser_is_shown_latents_and_the_labels_that_it_knows(tiny_denoiser):
    denoiser = tiny_denoiser(backbone={**LATENT, "num_classes": 10}, first_stage=KL)
    x0, cond = denoiser.prepare_batch(IMAGES, LABELS)
    assert torch.equal(x0, denoiser.encode(IMAGES))
    assert list(cond) == ["y"]
    assert torch.equal(cond["y"], LABELS)
    drawn, _ = denoiser.prepare_batch(IMAGES, LABELS, generator(0, "test/latents"))
    assert torch.equal(drawn, denoiser.encode(IMAGES, generator(0, "test/latents")))


def test_without_a_first_stage_images_are_shown_encoded_and_decoded_as_they_are(tiny_denoiser):
    denoiser = tiny_denoiser()
    assert denoiser.bounded
    assert denoiser.spec.image_shape == denoiser.shape == (1, 8, 8)
    x0, cond = denoiser.prepare_batch(IMAGES, LABELS, generator(0, "test/latents"))
    assert cond == {}
    for images in (x0, denoiser.encode(IMAGES), denoiser.decode(IMAGES)):
        assert torch.equal(images, IMAGES)


def test_training_mode_and_gradients_are_the_backbones_alone(tiny_spec):
    denoiser = tiny_spec(backbone=LATENT, first_stage={**VQ, "dropout": 0.5}).build()
    assert not denoiser.first_stage.training
    assert denoiser.train() is denoiser
    assert denoiser.backbone.training
    assert not any(module.training for module in denoiser.first_stage.modules())
    assert torch.equal(denoiser.encode(IMAGES), denoiser.encode(IMAGES))
    denoiser.eval()
    assert not denoiser.backbone.training
    assert all(parameter.requires_grad for parameter in denoiser.backbone.parameters())
    assert not any(parameter.requires_grad for parameter in denoiser.first_stage.parameters())


def test_a_first_stage_is_drawn_from_a_stream_of_its_own(tiny_spec):
    alone, beside = tiny_spec(backbone=LATENT).build(3), tiny_spec(backbone=LATENT, first_stage=VQ).build(3)
    assert all(torch.equal(weight, beside.backbone.state_dict()[name]) for name, weight in alone.backbone.state_dict().items())
    with seeded_global_rng(3, "model/first-stage"):
        expected = beside.spec.first_stage.build().state_dict()
    assert all(torch.equal(weight, expected[name]) for name, weight in beside.first_stage.state_dict().items())
    other = tiny_spec(backbone=LATENT, first_stage=VQ).build(4).first_stage
    assert not torch.equal(other.encode(IMAGES), beside.first_stage.encode(IMAGES))


@pytest.mark.parametrize(
    ("backbone", "first_stage", "message"),
    [
        ({}, VQ, "first_stage: its latents are 2x4x4, but the backbone takes 1x8x8; change one of the two"),
        (LATENT, {**KL, "embed_dim": 3}, "first_stage: its latents are 3x4x4, but the backbone takes 2x4x4; change one of the two"),
        (LATENT, {**VQ, "resolution": 16}, "first_stage: its latents are 2x8x8, but the backbone takes 2x4x4; change one of the two"),
        (LATENT, {**VQ, "scale_factor": 0}, "first_stage.scale_factor: found 0; give a value above 0"),
    ],
)
def test_a_first_stage_that_does_not_fit_the_backbone_is_refused(tiny_spec, backbone, first_stage, message):
    with pytest.raises(ValidationError) as error:
        tiny_spec(backbone=backbone, first_stage=first_stage)
    assert [f"{problem.field}: {problem.message}" for problem in format_errors(error.value)] == [message]


@pytest.mark.parametrize("first_stage", [VQ, KL])
def test_a_specification_with_a_first_stage_comes_back_equal_from_its_dump(tiny_spec, first_stage):
    spec = tiny_spec(backbone=LATENT, first_stage=first_stage)
    assert type(spec).model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize("first_stage", [VQ, KL])
def test_a_first_stage_comes_back_to_the_last_bit_with_its_scale_factor(tmp_path, tiny_spec, first_stage):
    # Of another seed than the one that reading builds from, so that weights which were not read would show.
    written = tiny_spec(backbone=LATENT, first_stage=first_stage).build(seed=5)
    write_denoiser(tmp_path, written, written.backbone.state_dict())
    found = read_checkpoint(tmp_path).denoiser
    assert found.spec == written.spec
    assert found.first_stage.spec.scale_factor == 0.18215
    assert list(found.state_dict()) == list(written.state_dict())
    for name, value in written.state_dict().items():
        assert torch.equal(found.state_dict()[name], value)
    images = per_sample_normal(0, "test/images", range(2), (1, 8, 8)).clamp(-1, 1)
    assert torch.equal(found.encode(images), written.encode(images))
    assert torch.equal(found.decode(found.encode(images)), written.decode(written.encode(images)))
    assert not found.training
    assert not any(parameter.requires_grad for parameter in found.parameters())


def test_a_first_stage_is_a_third_file(folder, denoiser):
    assert sorted(path.name for path in folder.iterdir()) == ["denoiser.json", "first-stage.safetensors", "weights.safetensors"]
    record = json.loads((folder / DENOISER_FILE).read_text())
    assert record["first_stage"] == {"file": "first-stage.safetensors", "sha256": sha256_of(folder / "first-stage.safetensors")}
    weights = read_tensors(folder, TensorFile(**record["weights"]))
    assert weights.keys() == denoiser.backbone.state_dict().keys()


def test_a_missing_first_stage_is_refused(folder):
    file = folder / "first-stage.safetensors"
    file.unlink()
    assert refused(CheckpointError, folder) == f"{file}: this file of the checkpoint is missing; copy the whole folder again"


def test_a_damaged_first_stage_is_refused(folder):
    file = folder / "first-stage.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    message = refused(IntegrityError, folder)
    assert message.startswith(f"{file}: sha256 is ")
    assert message.endswith("was written; the file was damaged, copy it again")


def test_a_record_without_the_first_stage_that_its_denoiser_needs_is_refused(folder):
    edit(folder / DENOISER_FILE, lambda record: record.pop("first_stage"))
    assert refused(CheckpointError, folder) == (
        f"{folder / DENOISER_FILE}: has no 'first_stage', which its denoiser needs; copy the checkpoint again"
    )


def test_a_first_stage_of_another_kind_or_size_is_refused(folder):
    edit(folder / DENOISER_FILE, lambda record: record["denoiser"]["first_stage"].update(n_embed=32))
    message = refused(CheckpointError, folder)
    assert message.startswith(f"{folder}: the weights do not fit first stage 'vq': size mismatch for quantize.embedding.weight")
    assert "\n" not in message


def test_published_weights_of_a_first_stage_are_put_in(tmp_path, tiny_spec):
    spec = tiny_spec(backbone=LATENT, first_stage=VQ)
    published, denoiser = spec.build(seed=1), spec.build(seed=2)
    backbone = {name: value.clone() for name, value in denoiser.backbone.state_dict().items()}
    write_tensors(tmp_path / "vq.safetensors", published.first_stage.state_dict())
    load_first_stage(denoiser, tmp_path / "vq.safetensors")
    for name, value in published.first_stage.state_dict().items():
        assert torch.equal(denoiser.first_stage.state_dict()[name], value)
    assert all(torch.equal(value, backbone[name]) for name, value in denoiser.backbone.state_dict().items())
    assert not any(parameter.requires_grad for parameter in denoiser.first_stage.parameters())


def test_other_weights_than_a_first_stages_are_refused(tmp_path, tiny_spec):
    denoiser, file = tiny_spec(backbone=LATENT, first_stage=VQ).build(), tmp_path / "vq.safetensors"
    weights = denoiser.first_stage.state_dict()
    kind = f"{file}: the weights do not fit first stage 'vq'"
    without = {name: value for name, value in weights.items() if name != "quant_conv.bias"}
    for found, message in [
        (without, f'{kind}: Missing key(s) in state_dict: "quant_conv.bias".'),
        ({**weights, "loss.logvar": torch.zeros(())}, f'{kind}: Unexpected key(s) in state_dict: "loss.logvar".'),
        ({**weights, "quant_conv.bias": torch.zeros(5)}, f"{kind}: size mismatch for quant_conv.bias: "),
    ]:
        write_tensors(file, found)
        with pytest.raises(CheckpointError) as error:
            load_first_stage(denoiser, file)
        assert str(error.value).startswith(message)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 a pickle of torch"])
def test_a_file_of_a_first_stage_that_is_no_safetensors_is_refused(tmp_path, denoiser, content):
    file = tmp_path / "vq.ckpt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        load_first_stage(denoiser, file)
    assert str(error.value).startswith(f"{file}: cannot be read as safetensors (")
    assert str(error.value).endswith("); give the first stage's state dict")
    assert "\n" not in str(error.value)


def test_a_training_with_a_first_stage_is_resumed_from_its_checkpoint_alone(tmp_path, tiny_spec):
    digits = Digits().open("train")
    spec = tiny_spec(backbone=LATENT, first_stage=KL)
    training = Training(images=64, batch_size=16, ema=0.9, learning_rate=1e-3, checkpoint_every=32)
    published = spec.build(seed=7).first_stage.state_dict()

    def trainer():
        return Trainer(spec, training, digits, seed=0)

    def run(one, folder, until=64):
        for progress in one.run(lambda seen: folder / f"{seen:03d}"):
            if progress.images_seen >= until:
                break
        return one

    starts = [trainer(), trainer()]
    for one in starts:
        one.denoiser.first_stage.load_state_dict(published)
    whole = run(starts[0], tmp_path / "whole")
    run(starts[1], tmp_path / "broken", until=48)
    resumed = trainer()  # its first stage is drawn from the seed, until the checkpoint's takes its place
    assert not torch.equal(resumed.denoiser.first_stage.quant_conv.weight, published["quant_conv.weight"])
    resumed.restore(tmp_path / "broken" / "032")
    assert all(torch.equal(value, published[name]) for name, value in resumed.denoiser.first_stage.state_dict().items())
    run(resumed, tmp_path / "broken")
    for a, b in ((whole.denoiser, resumed.denoiser), (whole.average.module, resumed.average.module)):
        assert all(torch.equal(value, b.state_dict()[name]) for name, value in a.state_dict().items())


def test_latents_that_are_drawn_come_from_the_stream_of_their_name(tmp_path, tiny_spec):
    # A network that starts at zero predicts x0 = 0, so that its loss is the mean square of the latents.
    digits = Digits().open("train")
    spec = tiny_spec(backbone=LATENT, first_stage=KL, target="x0")
    trainer = Trainer(spec, Training(images=48, batch_size=16, learning_rate=1e-12, log_every=16), digits, seed=3)
    records = [progress.record for progress in trainer.run(lambda seen: tmp_path / f"{seen:03d}")]
    order = torch.randperm(len(digits), generator=generator(3, "data/order", 0))
    for seen, record in zip((0, 16, 32), records, strict=True):
        mean, log_variance = trainer.denoiser.first_stage.moments(digits.pixels[order[seen : seen + 16]]).chunk(2, dim=1)
        noise = torch.randn(mean.shape, generator=generator(3, "training/latents", seen))
        latents = 0.18215 * (mean + (log_variance / 2).exp() * noise)
        assert record["loss"] == pytest.approx(float(latents.square().mean()), rel=1e-5)
