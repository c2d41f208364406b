"""A small denoiser for each layout that etsdm exports, and the fields that its files do not hold."""

from foreign import filled
from small_adm import SMALL

import etsdm
from etsdm.backbones import ADMUNet, LDMUNet
from etsdm.backbones.dit import DiT
from etsdm.backbones.first_stages.kl import KLAutoencoder
from etsdm.backbones.song import SongUNet

UNET = {**SMALL, "num_head_channels": 8}
LATENT_UNET = LDMUNet(**{**UNET, "in_channels": 2, "out_channels": 2})
DIT = DiT(image_size=8, in_channels=1, out_channels=2, patch_size=2, hidden_size=24, depth=1, num_heads=3, num_classes=3)
STAGE = KLAutoencoder(
    resolution=16, in_channels=1, out_ch=1, ch=8, ch_mult=(1, 2), num_res_blocks=1, attn_resolutions=(), z_channels=2, norm_groups=4
)
SONG = SongUNet(image_size=8, in_channels=1, out_channels=1, model_channels=16, channel_mult=(1,), num_blocks=1, attn_resolutions=())
GIVEN = {"backbone": {"image_size": 8, "num_head_channels": 8, "norm_groups": 8}}

# Format: parts of the denoiser, fields that the format does not hold, and whether it holds the condition map.
LAYOUTS = {
    "guided-diffusion": (
        {"schedule": "linear", "backbone": ADMUNet(**{**UNET, "out_channels": 2, "num_classes": 3})},
        {"schedule": "linear", **GIVEN},
        False,
    ),
    "ldm": (
        {"schedule": "ldm", "backbone": LATENT_UNET, "first_stage": STAGE},
        {"first_stage": {"norm_groups": 4, "embed_dim": None}, **GIVEN},
        False,
    ),
    "dit": ({"schedule": "linear", "backbone": DIT}, {"first_stage": None, "backbone": {"num_heads": 3}}, False),
    "edm": ({"schedule": "edm", "target": {"type": "edm", "sigma_data": 0.4}, "backbone": SONG}, {}, False),
    "diffusers": ({"schedule": "cosine", "target": "v", "backbone": ADMUNet(**UNET)}, {}, True),
    "safetensors": ({"schedule": "ldm", "backbone": LATENT_UNET, "first_stage": STAGE}, {}, True),
}
MAPS = {"edm": "edm-vp-equivalent"}  # E-TSDM for others


def made(layout, mapped=True):
    """A denoiser for a layout."""
    condition_map = MAPS.get(layout, "e-tsdm") if mapped else "identity"
    return built(**LAYOUTS[layout][0], condition_map=condition_map)


def built(**parts):
    """A denoiser of these parts, with noise in every weight."""
    denoiser = etsdm.DenoiserSpec(**parts).build().eval().requires_grad_(False)
    filled(denoiser.backbone)
    if denoiser.first_stage is not None:
        filled(denoiser.first_stage)
    return denoiser
