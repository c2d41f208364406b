"""Denoisers and images of every floating dtype give images; integers are refused in one sentence."""

from copy import deepcopy

import pytest
import torch

import etsdm
from etsdm.analysis import lipschitz_curve, log_likelihood, stability_curve
from etsdm.denoisers.wrappers import ClassifierFreeGuidance, FixedLabels, FixedLowRes, Inpainting, ZeroSNRStart
from etsdm.errors import PartError
from etsdm.randomness import per_sample_normal
from etsdm.registry import samplers
from etsdm.sampling import img2img, invert
from etsdm.schedules import ZeroTerminal
from etsdm.targets import V
from etsdm.theory import ExactDenoiser, mixture

DTYPES = [torch.float16, torch.bfloat16, torch.float64]
TOLERANCE = {torch.float16: 0.02, torch.bfloat16: 0.15, torch.float64: 1e-4}
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
BACKBONES = {
    "dhariwal-unet": {"model_channels": 8, "channel_mult": [1, 2], "attn_resolutions": [4], "num_blocks": 1},
    "song-unet": {"model_channels": 8, "channel_mult": [1, 2], "attn_resolutions": [4], "num_blocks": 1},
    "dit": {"patch_size": 2, "hidden_size": 16, "depth": 1, "num_heads": 2},
    "mlp": {"width": 16, "depth": 1, "time_embed_dim": 16},
}


def images_of(denoiser, dtype=torch.float32, n=2):
    return per_sample_normal(0, "test/images", range(n), denoiser.shape).clamp(-1, 1).to(dtype)


@pytest.mark.parametrize(("name", "dtype"), [(name, DTYPES[i % 3]) for i, name in enumerate(samplers.names())], ids=str)
def test_every_sampler_gives_the_images_of_float32_to_the_precision_of_the_weights(tiny_denoiser, name, dtype):
    steps = {"steps": 6} if name != "edm-stochastic" else {"steps": 3}
    expected, found = (etsdm.sample(tiny_denoiser(target="v").to(d), 2, sampler=name, **steps) for d in (torch.float32, dtype))
    assert found.dtype == torch.float32
    assert (found - expected).abs().mean() < TOLERANCE[dtype]


@every_dtype
def test_samples_of_latents_and_of_super_resolution(tiny_denoiser, latent_denoiser, dtype):
    expected, latent = etsdm.sample(latent_denoiser, 2, steps=3), deepcopy(latent_denoiser)
    assert (etsdm.sample(latent.to(dtype), 2, steps=3, chunk=1) - expected).abs().mean() < TOLERANCE[dtype]
    pixels = torch.zeros(2, *latent.spec.image_shape)
    assert latent.encode(pixels).dtype == torch.float32
    large = tiny_denoiser(backbone={"in_channels": 2}, super_resolution={"factor": 2}).to(dtype)
    low_res = torch.zeros(2, 1, 4, 4)
    assert etsdm.sample(large, 2, steps=2, low_res=low_res).isfinite().all()
    assert etsdm.sample(FixedLowRes(large, low_res.to(dtype)), 2, steps=2).isfinite().all()


@every_dtype
def test_wrappers(tiny_denoiser, dtype):
    labelled = tiny_denoiser(target="v", backbone={"num_classes": 3}).to(dtype)
    guided = FixedLabels(ClassifierFreeGuidance(labelled, 2.0), 1)
    known = images_of(labelled, dtype)
    inpainted = Inpainting(guided, known, torch.ones(1, 1, 8, 8, dtype=torch.bool), torch.zeros_like(known))
    assert etsdm.sample(guided, 2, steps=2).isfinite().all()
    torch.testing.assert_close(etsdm.sample(inpainted, 2, steps=2), known.float(), rtol=0, atol=1e-5)
    zero = tiny_denoiser(schedule=ZeroTerminal(), target="v").to(dtype)
    assert etsdm.sample(ZeroSNRStart(zero, zero), 2, steps=2).isfinite().all()


@pytest.mark.parametrize(
    ("weights", "dtype"), [*((torch.float32, dtype) for dtype in DTYPES), *((dtype, torch.float32) for dtype in DTYPES)], ids=str
)
def test_images_of_any_dtype(tiny_denoiser, weights, dtype):
    denoiser = tiny_denoiser(target="v").to(weights)
    images = images_of(denoiser, dtype)
    for call in (lambda: img2img(denoiser, images, start=300, steps=3), lambda: invert(denoiser, images, steps=3)):
        assert call().dtype == dtype
        assert call().isfinite().all()
    assert lipschitz_curve(denoiser, images, [5.0, 300.0]).mean.isfinite().all()
    assert stability_curve(denoiser, images, reading="one-shot").rms.isfinite().all()
    assert log_likelihood(denoiser, images, rtol=0.5, atol=0.5).log_likelihood.isfinite().all()


@pytest.mark.parametrize(
    "call",
    [
        lambda d, x: img2img(d, x, start=300, steps=3),
        lambda d, x: invert(d, x, steps=3),
        lambda d, x: lipschitz_curve(d, x, [5.0]),
        lambda d, x: stability_curve(d, x),
        lambda d, x: log_likelihood(d, x),
    ],
)
def test_integers_are_refused(tiny_denoiser, call):
    with pytest.raises(PartError, match=r"^images: found uint8; give floating-point numbers in \[-1, 1\]"):
        call(tiny_denoiser(), torch.zeros(2, 1, 8, 8, dtype=torch.uint8))


@every_dtype
def test_the_exact_denoiser(dtype):
    exact = ExactDenoiser(mixture("m1"), ZeroTerminal(), target=V())
    x = torch.tensor([[0.5], [-1.0]], dtype=dtype)
    assert img2img(exact, x, start=300, steps=50).dtype == dtype
    assert lipschitz_curve(exact, x, [5.0]).mean.isfinite().all()
    assert log_likelihood(exact, x, trace="exact").log_likelihood.isfinite().all()


@every_dtype
@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone(name, dtype):
    sizes = {"image_size": 8, "in_channels": 1, "out_channels": 1}
    denoiser = etsdm.DenoiserSpec(schedule="linear", backbone={"type": name, **sizes, **BACKBONES[name]}).build().eval().to(dtype)
    assert etsdm.sample(denoiser, 2, steps=2).isfinite().all()
