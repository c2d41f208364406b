"""The fields of the smallest UNet of guided-diffusion and of latent-diffusion, and what else may be set."""

SMALL = {
    "image_size": 8,
    "in_channels": 1,
    "model_channels": 16,
    "out_channels": 1,
    "num_res_blocks": 1,
    "attention_resolutions": (2,),
    "channel_mult": (1, 2),
    "norm_groups": 8,
}
EVERY_OPTION = {
    "dropout": 0.1,
    "num_classes": 10,
    "num_head_channels": 8,
    "use_scale_shift_norm": True,
    "resblock_updown": True,
    "use_new_attention_order": True,
    "time_embed_dim": 24,
}
