"""Presets of `adm-unet`: published networks and their fields.

Table A1 of the paper lists the networks of its experiments, without the form of the time conditioning and exact sizes.
With scale and shift, BigGAN resampling and the time width as "timestep channels" they have 138,286,467 and 725,956,227 parameters
at 256x256 with three outputs, which is 131.9 and 692.3 in units of 2^20: the table's 131M and 692M. The large network's attention
resolutions are printed as "32,64,8"; the 64 is read as a misprint of 16, as in the normal network, because a network with
attention at 32, 64 and 8 pixels has 707.05M parameters, 674.3 in units of 2^20.

guided-diffusion and improved-diffusion name attention resolutions in pixels; `attention_resolutions` here are the downsampling
factors that their programs compute from them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["ADM_PRESETS", "ADMPreset"]


class ADMPreset(NamedTuple):
    """A line on a published network, and the fields of its `ADMUNet`."""

    description: str
    fields: dict[str, Any]


TABLE_A1 = {
    "image_size": 256,
    "in_channels": 3,
    "model_channels": 128,
    "out_channels": 3,
    "attention_resolutions": (8, 16, 32),
    "num_head_channels": 64,
    "use_scale_shift_norm": True,
    "resblock_updown": True,
}

# guided-diffusion's networks also predict the variance: six output channels.
GUIDED = {
    "in_channels": 3,
    "out_channels": 6,
    "num_res_blocks": 2,
    "use_scale_shift_norm": True,
    "resblock_updown": True,
}
GUIDED_256 = {
    **GUIDED,
    "image_size": 256,
    "model_channels": 256,
    "attention_resolutions": (8, 16, 32),
    "channel_mult": (1, 1, 2, 2, 4, 4),
    "num_head_channels": 64,
}
# Three channels of the noisy image and three of the small one, enlarged.
UPSAMPLER = {**GUIDED, "in_channels": 6, "model_channels": 192, "num_classes": 1000}

CIFAR10 = {"image_size": 32, "in_channels": 3, "model_channels": 128, "channel_mult": (1, 2, 2, 2)}

ADM_PRESETS = {
    "adm-normal": ADMPreset(
        "The paper's normal network (Table A1): 138.29M parameters at 256x256.",
        {**TABLE_A1, "channel_mult": (1, 1, 2, 2, 4, 4), "num_res_blocks": 2, "time_embed_dim": 512},
    ),
    "adm-large": ADMPreset(
        "The paper's large network (Table A1): 725.96M parameters at 256x256; "
        'its attention resolutions, printed as "32,64,8", are read as 32, 16 and 8.',
        {**TABLE_A1, "channel_mult": (1, 1, 2, 4, 6, 8), "num_res_blocks": 4, "time_embed_dim": 2048},
    ),
    "adm-imagenet-64": ADMPreset(
        "guided-diffusion's ImageNet 64x64, with labels and learned variance.",
        {
            **GUIDED,
            "image_size": 64,
            "model_channels": 192,
            "num_res_blocks": 3,
            "attention_resolutions": (2, 4, 8),
            "channel_mult": (1, 2, 3, 4),
            "num_classes": 1000,
            "num_head_channels": 64,
            "dropout": 0.1,
            "use_new_attention_order": True,
        },
    ),
    "adm-imagenet-128": ADMPreset(
        "guided-diffusion's ImageNet 128x128, with labels and learned variance.",
        {
            **GUIDED,
            "image_size": 128,
            "model_channels": 256,
            "attention_resolutions": (4, 8, 16),
            "channel_mult": (1, 1, 2, 3, 4),
            "num_classes": 1000,
            "num_heads": 4,
        },
    ),
    "adm-imagenet-256": ADMPreset(
        "guided-diffusion's ImageNet 256x256, with labels and learned variance.",
        {**GUIDED_256, "num_classes": 1000},
    ),
    "adm-imagenet-256-uncond": ADMPreset(
        "guided-diffusion's ImageNet 256x256 without labels, with learned variance.",
        GUIDED_256,
    ),
    "adm-imagenet-512": ADMPreset(
        "guided-diffusion's ImageNet 512x512, with labels and learned variance.",
        {
            **GUIDED_256,
            "image_size": 512,
            "attention_resolutions": (16, 32, 64),
            "channel_mult": (0.5, 1, 1, 2, 2, 4, 4),
            "num_classes": 1000,
        },
    ),
    "adm-lsun-256": ADMPreset(
        "guided-diffusion's LSUN bedroom, horse and cat 256x256, with learned variance.",
        {**GUIDED_256, "dropout": 0.1},
    ),
    "adm-upsampler-64-256": ADMPreset(
        "guided-diffusion's super-resolution of ImageNet from 64x64 to 256x256: the enlarged image is three more input channels.",
        {
            **UPSAMPLER,
            "image_size": 256,
            "attention_resolutions": (8, 16, 32),
            "channel_mult": (1, 1, 2, 2, 4, 4),
            "num_heads": 4,
        },
    ),
    "adm-upsampler-128-512": ADMPreset(
        "guided-diffusion's super-resolution of ImageNet from 128x128 to 512x512: the enlarged image is three more input channels.",
        {
            **UPSAMPLER,
            "image_size": 512,
            "attention_resolutions": (16, 32),
            "channel_mult": (1, 1, 2, 2, 4, 4),
            "num_head_channels": 64,
        },
    ),
    "ddpm-cifar10": ADMPreset(
        "DDPM's CIFAR-10 network (Ho et al. 2020), 35.7M parameters, made of guided-diffusion's layers.",
        {**CIFAR10, "out_channels": 3, "num_res_blocks": 2, "attention_resolutions": (2,), "dropout": 0.1},
    ),
    "improved-cifar10": ADMPreset(
        "improved-diffusion's CIFAR-10 (Nichol and Dhariwal 2021), 52.5M parameters, with learned variance.",
        {
            **CIFAR10,
            "out_channels": 6,
            "num_res_blocks": 3,
            "attention_resolutions": (2, 4),
            "num_heads": 4,
            "use_scale_shift_norm": True,
            "dropout": 0.3,
        },
    ),
}
