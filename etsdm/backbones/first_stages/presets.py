"""Presets of first stages: those published with latent diffusion (CompVis/latent-diffusion, `models/first_stage_models/*/config.yaml`).

Names are those of its model zoo, f being the downsampling factor. The scale factor is 1 for all models on `vq` stages. Models on `kl`
stages measure it at the first batch of their training and save it in their checkpoints, so it belongs to the model, and is set here only
if it was published.
"""

from __future__ import annotations

from typing import Any

__all__ = ["KL_PRESETS", "VQ_PRESETS"]

IMAGES = {"resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128, "num_res_blocks": 2}
F4 = {**IMAGES, "z_channels": 3, "embed_dim": 3, "ch_mult": (1, 2, 4), "attn_resolutions": ()}
VQ_F8 = {**IMAGES, "z_channels": 4, "embed_dim": 4, "ch_mult": (1, 2, 2, 4), "attn_resolutions": (32,)}
KL_F8 = {**IMAGES, "z_channels": 4, "embed_dim": 4, "ch_mult": (1, 2, 4, 4), "attn_resolutions": ()}
F16 = {**IMAGES, "ch_mult": (1, 1, 2, 2, 4), "attn_resolutions": (16,)}
F32 = {**IMAGES, "ch_mult": (1, 1, 2, 2, 4, 4), "attn_resolutions": (16, 8)}

VQ_PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    "vq-f4": ("64x64x3 latents, 8192 codes; of ldm-ffhq, ldm-celebahq, ldm-lsun-beds", {**F4, "n_embed": 8192}),
    "vq-f4-noattn": ("vq-f4 without attention", {**F4, "n_embed": 8192, "attn_type": "none"}),
    "vq-f8": ("32x32x4 latents, 16384 codes; of ldm-cin256", {**VQ_F8, "n_embed": 16384}),
    "vq-f8-n256": ("32x32x4 latents, 256 codes", {**VQ_F8, "n_embed": 256}),
    "vq-f16": ("16x16x8 latents, 16384 codes", {**F16, "z_channels": 8, "embed_dim": 8, "n_embed": 16384}),
}

KL_PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    "kl-f4": ("64x64x3 latents", F4),
    "kl-f8": ("32x32x4 latents; of ldm-lsun-churches, whose scale factor its checkpoint holds", KL_F8),
    "kl-f8-sd": ("32x32x4 latents with the scale factor of Stable Diffusion 1", {**KL_F8, "scale_factor": 0.18215}),
    "kl-f16": ("16x16x16 latents", {**F16, "z_channels": 16, "embed_dim": 16}),
    "kl-f16-rdm": (
        "16x16x16 latents with the scale factor of retrieval-augmented diffusion",
        {**F16, "z_channels": 16, "embed_dim": 16, "scale_factor": 0.22765929},
    ),
    "kl-f32": ("8x8x64 latents", {**F32, "z_channels": 64, "embed_dim": 64}),
}
