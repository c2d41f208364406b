"""Equality with the networks of diffusers, an independent program, where the architectures coincide.

`UNet2DModel` has the plain attention, `UNet2DConditionModel` the transformers. They have neither legacy's rule for heads that do not
divide a level nor the two orders of query, key and value, which it keeps in three layers. Pooling without a convolution is left out.
"""

import diffusers
import pytest
import torch
from recorded import weight

from etsdm.backbones import LDMUNet
from etsdm.randomness import per_sample_normal

RESIDUAL = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
    "op": "conv",  # of a layer that halves
    "conv": "conv",
}
OUTSIDE = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb": "class_embedding",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
SMALL = {
    "image_size": 16,
    "in_channels": 3,
    "model_channels": 16,
    "out_channels": 4,
    "num_res_blocks": 2,
    "attention_resolutions": (2, 4),
    "channel_mult": (1, 2, 3),
    "num_head_channels": 8,
    "norm_groups": 8,
}


def layers(spec):
    """Pairs (our layer, theirs) of all layers that are residual or attention, and of those that resample."""
    last = len(spec.widths) - 1
    index = 1
    for level in range(len(spec.widths)):
        for block in range(spec.num_res_blocks):
            yield f"input_blocks.{index}.0", f"down_blocks.{level}.resnets.{block}"
            if spec.has_attention(level):
                yield f"input_blocks.{index}.1", f"down_blocks.{level}.attentions.{block}"
            index += 1
        if level < last:
            yield f"input_blocks.{index}.0", f"down_blocks.{level}.downsamplers.0"
            index += 1
    for layer, theirs in enumerate(("resnets.0", "attentions.0", "resnets.1")):
        yield f"middle_block.{layer}", f"mid_block.{theirs}"
    index = 0
    for up, level in enumerate(reversed(range(len(spec.widths)))):
        for block in range(spec.num_res_blocks + 1):
            yield f"output_blocks.{index}.0", f"up_blocks.{up}.resnets.{block}"
            if spec.has_attention(level):
                yield f"output_blocks.{index}.1", f"up_blocks.{up}.attentions.{block}"
            if level > 0 and block == spec.num_res_blocks:
                yield f"output_blocks.{index}.{2 if spec.has_attention(level) else 1}", f"up_blocks.{up}.upsamplers.0"
            index += 1


def attention(key, value, heads):
    """Their keys and values for one of ours in plain attention, whose channels are (heads, qkv, d)."""
    layer, kind = key.rsplit(".", 1)
    value = value.squeeze(-1)
    if layer == "qkv":
        for name, part in zip(("to_q", "to_k", "to_v"), value.unflatten(0, (heads, 3, -1)).unbind(1), strict=True):
            yield f"{name}.{kind}", part.flatten(0, 1)
    else:
        yield f"{ {'norm': 'group_norm', 'proj_out': 'to_out.0'}[layer] }.{kind}", value


def converted(spec, state):
    theirs = {}
    for ours, other in OUTSIDE.items():
        theirs |= {f"{other}.{kind}": state[f"{ours}.{kind}"] for kind in ("weight", "bias") if f"{ours}.{kind}" in state}
    for ours, other in layers(spec):
        for key, value in state.items():
            if not key.startswith(f"{ours}."):
                continue
            key = key.removeprefix(f"{ours}.")
            if ".attentions." not in other:
                layer, kind = key.rsplit(".", 1)
                theirs[f"{other}.{RESIDUAL[layer]}.{kind}"] = value
            elif spec.use_spatial_transformer:
                theirs[f"{other}.{key}"] = value
            else:
                heads = state[f"{ours}.norm.weight"].numel() // spec.num_head_channels
                theirs |= {f"{other}.{name}": part for name, part in attention(key, value, heads)}
    return theirs


def networks(spec, peer, kinds):
    """Ours and theirs with the same weights."""
    ours = spec.build().eval()
    ours.load_state_dict({key: weight(key, value.shape) for key, value in ours.state_dict().items()})
    plain, attending = kinds
    down = [attending if spec.has_attention(level) else plain for level in range(len(spec.widths))]
    common = {
        "sample_size": spec.image_size,
        "in_channels": spec.in_channels,
        "out_channels": spec.out_channels,
        "block_out_channels": spec.widths,
        "layers_per_block": spec.num_res_blocks,
        "down_block_types": tuple(down),
        "up_block_types": tuple(kind.replace("Down", "Up") for kind in reversed(down)),
        "norm_num_groups": spec.norm_groups,
        "norm_eps": 1e-5,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "downsample_padding": 1,
        "resnet_time_scale_shift": "scale_shift" if spec.use_scale_shift_norm else "default",
    }
    theirs = peer(common).eval()
    theirs.load_state_dict(converted(spec, ours.state_dict()), strict=True)
    return ours, theirs


def inputs(spec):
    return per_sample_normal(0, "test/latents", range(3), (spec.in_channels, 16, 16)), torch.tensor([0.0, 41.5, 999.0])


@torch.no_grad()
@pytest.mark.parametrize("resblock_updown", [False, True])
@pytest.mark.parametrize("use_scale_shift_norm", [False, True])
@pytest.mark.parametrize("num_classes", [None, 5])
def test_the_plain_network_is_diffusers_unet_2d_model(resblock_updown, use_scale_shift_norm, num_classes):
    options = {"resblock_updown": resblock_updown, "use_scale_shift_norm": use_scale_shift_norm, "num_classes": num_classes}
    spec = LDMUNet(**SMALL, **options)
    kind = "resnet" if resblock_updown else "conv"

    def peer(common):
        return diffusers.UNet2DModel(
            **common,
            attention_head_dim=spec.num_head_channels,
            attn_norm_num_groups=spec.norm_groups,
            downsample_type=kind,
            upsample_type=kind,
            num_class_embeds=num_classes,
        )

    ours, theirs = networks(spec, peer, ("ResnetDownsampleBlock2D" if resblock_updown else "DownBlock2D", "AttnDownBlock2D"))
    x, t = inputs(spec)
    y = None if num_classes is None else torch.tensor([0, 4, 2])
    torch.testing.assert_close(ours(x, t, y), theirs(x, t, class_labels=y).sample, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("num_classes", [None, 5])
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("depth", [1, 2])
def test_the_network_with_transformers_is_diffusers_unet_2d_condition_model(depth, legacy, num_classes):
    heads = {"num_head_channels": None, "num_heads": 2}
    transformer = {"use_spatial_transformer": True, "context_dim": 12, "transformer_depth": depth, "legacy": legacy}
    spec = LDMUNet(**{**SMALL, **heads, **transformer, "num_classes": num_classes})

    def peer(common):
        return diffusers.UNet2DConditionModel(
            **common,
            attention_head_dim=2,  # it means heads
            cross_attention_dim=12,
            transformer_layers_per_block=depth,
            num_class_embeds=num_classes,
        )

    ours, theirs = networks(spec, peer, ("DownBlock2D", "CrossAttnDownBlock2D"))
    x, t = inputs(spec)
    context = per_sample_normal(0, "test/contexts", range(3), (4, 12))
    y = None if num_classes is None else torch.tensor([0, 4, 2])
    expected = theirs(x, t, encoder_hidden_states=context, class_labels=y).sample
    torch.testing.assert_close(ours(x, t, y, context=context), expected, atol=1e-5, rtol=1e-5)
