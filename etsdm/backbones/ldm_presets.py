"""Presets of `ldm-unet`: published networks of latent diffusion (CompVis/latent-diffusion, `models/ldm/*/config.yaml`).

Descriptions name the first stage.
"""

from __future__ import annotations

from typing import Any

__all__ = ["LDM_PRESETS"]

F4 = {
    "image_size": 64,
    "in_channels": 3,
    "out_channels": 3,
    "model_channels": 224,
    "attention_resolutions": (8, 4, 2),
    "num_res_blocks": 2,
    "channel_mult": (1, 2, 3, 4),
    "num_head_channels": 32,
}

CIN256 = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 256,
    "attention_resolutions": (4, 2, 1),
    "num_res_blocks": 2,
    "channel_mult": (1, 2, 4),
    "num_head_channels": 32,
    "use_spatial_transformer": True,
    "transformer_depth": 1,
    "context_dim": 512,
}

LDM_PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    "ldm-ffhq": ("FFHQ 256x256, 274.06M, on vq-f4", F4),
    "ldm-celebahq": ("CelebA-HQ 256x256, 274.06M, on vq-f4", F4),
    "ldm-lsun-beds": ("LSUN Bedrooms 256x256, 274.06M, on vq-f4", F4),
    "ldm-lsun-churches": (
        "LSUN Churches 256x256, 294.97M, on kl-f8",
        {
            "image_size": 32,
            "in_channels": 4,
            "out_channels": 4,
            "model_channels": 192,
            "attention_resolutions": (1, 2, 4, 8),
            "num_res_blocks": 2,
            "channel_mult": (1, 2, 2, 4, 4),
            "num_heads": 8,
            "use_scale_shift_norm": True,
            "resblock_updown": True,
        },
    ),
    "ldm-cin256": (
        "ImageNet 256x256, 394.98M, on vq-f8; the context is one token, a learned embedding of the label in 512 channels",
        CIN256,
    ),
    "ldm-cin256-labels": (
        "ldm-cin256 with the embedding of 1,000 labels as a part of the network, 395.49M",
        {**CIN256, "num_classes": 1000, "label_context": True},
    ),
}
