"""Small pipelines of diffusers, and the images of a denoiser from their noise."""

import json
from functools import cache

import diffusers
import torch
from wrapped_networks import BLOCKS, DIT, UNET, seeded

N, STEPS = 2, 5
VAE = {
    **BLOCKS,
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
    "up_block_types": ("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
    "sample_size": 16,
}


def small(make):
    """A seeded network with so small an output that x0 stays near [-1, 1], where two programs round alike."""
    made = seeded(make)
    with torch.no_grad():
        for parameter in getattr(made, "conv_out", torch.nn.Identity()).parameters():
            parameter.mul_(0.1)
    return made


def unet(**changes):
    return small(lambda: diffusers.UNet2DModel(**{**UNET, **changes}))


def vae(**changes):
    return small(lambda: diffusers.AutoencoderKL(**{**VAE, **changes}))


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


@cache
def ddim_pipeline():
    scheduler = diffusers.DDIMScheduler(timestep_spacing="trailing", clip_sample=True)
    return quiet(diffusers.DDIMPipeline(unet(), scheduler))


def quiet(pipeline):
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def pipeline_images(pipeline, **options):
    return pipeline(num_inference_steps=STEPS, generator=stream(), output_type="pt", **options).images


def dit_pipeline(**changes):
    """A pipeline of a DiT with an autoencoder, whose configuration may be changed."""
    transformer = small(lambda: diffusers.DiTTransformer2DModel(**DIT, num_embeds_ada_norm=1000, out_channels=8))
    scheduler = diffusers.DDIMScheduler(timestep_spacing="trailing", clip_sample=False)
    return quiet(diffusers.DiTPipeline(transformer, vae(**changes), scheduler))


def edit(file, **changes):
    values = json.loads(file.read_text())
    file.write_text(json.dumps({**values, **changes}))
