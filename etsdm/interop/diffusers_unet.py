"""`UNet2DModel` of diffusers and `adm-unet`: configurations and keys, both ways.

They are one network where the resampling is that of all levels, the norms have an epsilon of 1e-5, and heads have as many channels
everywhere. diffusers keeps query, key and value as three matrices, we as one with the channels (heads, qkv, d).

A condition map f is a part of the exported network itself: its time embedding is diffusers' "learned" one, a table whose row t is the
sinusoid of f(t). So it acts in every pipeline that calls the network at integer timesteps, and stays through `save_pretrained`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from etsdm.backbones import ADMUNet, LDMUNet
from etsdm.backbones.layers import timestep_embedding
from etsdm.denoisers.denoiser import DenoiserSpec
from etsdm.errors import PartError

__all__ = ["SPEC_KEY", "TIME_TABLE", "config_of", "fields_of", "from_diffusers", "time_table", "to_diffusers"]

SPEC_KEY = "etsdm_backbone"
TIME_TABLE = "time_proj.weight"
EPS = 1e-5

# Values that the counterpart needs, where a configuration has the key.
FIXED: dict[str, tuple[Any, ...]] = {
    "center_input_sample": (False,),
    "flip_sin_to_cos": (True,),
    "freq_shift": (0,),
    "mid_block_type": ("UNetMidBlock2D",),
    "mid_block_scale_factor": (1,),
    "downsample_padding": (1,),
    "act_fn": ("silu", "swish"),
    "norm_eps": (EPS,),
    "add_attention": (True,),
    "class_embed_type": (None,),
    "resnet_time_scale_shift": ("default", "scale_shift"),
}
OUTSIDE = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb": "class_embedding",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
RESIDUAL = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
    "op": "conv",
    "conv": "conv",
}
KINDS = {"DownBlock2D": "conv", "UpBlock2D": "conv", "ResnetDownsampleBlock2D": "resnet", "ResnetUpsampleBlock2D": "resnet"}


def fields_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of the `adm-unet` that is a configured `UNet2DModel`.

    Args:
        config: with all keys of `UNet2DModel`.

    Raises:
        PartError: on a key for whose value there is no counterpart.
    """
    for key, allowed in FIXED.items():
        if config[key] not in allowed:
            raise PartError(key, f"{config[key]!r} has no counterpart, which needs {' or '.join(map(repr, allowed))}")
    size, down, up = config["sample_size"], list(config["down_block_types"]), list(config["up_block_types"])
    if isinstance(size, (list, tuple)) and len(set(size)) == 1:
        size = size[0]
    if not isinstance(size, int):
        raise PartError("sample_size", f"{size!r} is no height and width that are equal")
    if [kind.startswith("Attn") for kind in down] != [kind.startswith("Attn") for kind in reversed(up)]:
        raise PartError("up_block_types", f"{up} are not those of down_block_types, from the last")
    resampling = {
        *(KINDS.get(kind, config["downsample_type"] if kind == "AttnDownBlock2D" else None) for kind in down[:-1]),
        *(KINDS.get(kind, config["upsample_type"] if kind == "AttnUpBlock2D" else None) for kind in up[:-1]),
    }
    unknown = [kind for kind in (down[-1], up[-1]) if kind not in KINDS and kind not in ("AttnDownBlock2D", "AttnUpBlock2D")]
    if unknown or not resampling <= {"conv", "resnet"} or len(resampling) > 1:
        raise PartError("down_block_types", f"{down} and {up} are not the same plain or attention blocks, with one kind of resampling")
    groups, attention_groups = config["norm_num_groups"], config["attn_norm_num_groups"]
    scale_shift = config["resnet_time_scale_shift"] == "scale_shift"
    if attention_groups != groups and not (attention_groups is None and not scale_shift):
        raise PartError("attn_norm_num_groups", f"{attention_groups!r} is another norm in the middle; {groups} has a counterpart")
    widths, head = list(config["block_out_channels"]), config["attention_head_dim"]
    return {
        "image_size": size,
        "in_channels": config["in_channels"],
        "out_channels": config["out_channels"],
        "model_channels": widths[0],
        "num_res_blocks": config["layers_per_block"],
        "attention_resolutions": [1 << level for level, kind in enumerate(down) if kind.startswith("Attn")],
        "channel_mult": [_multiple(width, widths[0]) for width in widths],
        "dropout": config["dropout"],
        "num_classes": config["num_class_embeds"],
        "norm_groups": groups,
        "use_scale_shift_norm": scale_shift,
        "resblock_updown": resampling == {"resnet"},
        **({} if config["time_embedding_dim"] is None else {"time_embed_dim": config["time_embedding_dim"]}),
        **({"num_heads": 1} if head is None else {"num_head_channels": head}),
    }


def config_of(spec: ADMUNet) -> dict[str, Any]:
    """Configuration of the `UNet2DModel` that is a backbone.

    Raises:
        PartError: on a field for whose value there is no counterpart.
    """
    if isinstance(spec, LDMUNet) and (spec.use_spatial_transformer or not spec.legacy):
        raise PartError("use_spatial_transformer", "UNet2DModel has no cross-attention; export to ldm or safetensors instead")
    if not spec.conv_resample and not spec.resblock_updown:
        raise PartError("conv_resample", "UNet2DModel always resamples by convolutions; export to guided-diffusion or safetensors instead")
    if spec.widths[0] != spec.model_channels:
        raise PartError("channel_mult", f"{spec.channel_mult[0]:g} is not 1 at the first level, as UNet2DModel has it")
    attending = [spec.has_attention(level) for level in range(len(spec.widths))]
    kind = "resnet" if spec.resblock_updown else "conv"
    plain = "Resnet{}sampleBlock2D" if spec.resblock_updown else "{}Block2D"
    down = ["AttnDownBlock2D" if has else plain.format("Down") for has in attending]
    up = ["AttnUpBlock2D" if has else plain.format("Up") for has in reversed(attending)]
    return {
        "sample_size": spec.image_size,
        "in_channels": spec.in_channels,
        "out_channels": spec.out_channels,
        "block_out_channels": list(spec.widths),
        "layers_per_block": spec.num_res_blocks,
        "down_block_types": down,
        "up_block_types": up,
        "downsample_type": kind,
        "upsample_type": kind,
        "dropout": spec.dropout,
        "attention_head_dim": _head_channels(spec, attending),
        "norm_num_groups": spec.norm_groups,
        "attn_norm_num_groups": spec.norm_groups,
        "norm_eps": EPS,
        "resnet_time_scale_shift": "scale_shift" if spec.use_scale_shift_norm else "default",
        "num_class_embeds": spec.num_classes,
        "time_embedding_dim": spec.time_embed_dim,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
    }


def to_diffusers(spec: ADMUNet, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of `UNet2DModel` from that of the backbone."""
    return {theirs: value for _, theirs, value in _pairs(spec, state)}


def from_diffusers(spec: ADMUNet, theirs: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """State dict of the backbone from that of `UNet2DModel`, and the keys there of each key here.

    Keys that the backbone does not have come back unchanged, and those that it lacks are left out, so that both are found by comparison.
    """
    # The same rearrangement of the numbers 0, 1, 2, ... says where each number of theirs belongs.
    shapes = {key: value.shape for key, value in spec.build_on_meta().state_dict().items()}
    state: dict[str, Tensor] = {}
    used: dict[str, str] = {}
    taken: set[str] = set()
    for key, shape in shapes.items():
        places = torch.arange(shape.numel()).reshape(shape)
        moved = {name: value for _, name, value in _pairs(spec, {key: places})}
        taken |= moved.keys()
        if moved.keys() <= theirs.keys() and all(theirs[name].shape == value.shape for name, value in moved.items()):
            flat = torch.empty(shape.numel(), dtype=theirs[next(iter(moved))].dtype)
            for name, value in moved.items():
                flat[value.flatten()] = theirs[name].flatten()
            state[key], used[key] = flat.reshape(shape), ", ".join(moved)
        else:
            found = next((theirs[name] for name in moved if name in theirs), None)
            if found is not None:
                state[key] = found
    return state | {name: value for name, value in theirs.items() if name not in taken}, used


def time_table(spec: DenoiserSpec) -> Tensor:
    """Sinusoids of the time input at each timestep, (T, model_channels), float32; row t is that of f(t)."""
    assert isinstance(spec.backbone, ADMUNet)
    times = torch.arange(int(spec.schedule.horizon), dtype=torch.float64)
    conditions = spec.time_input(spec.condition_map(times, spec.schedule))
    return timestep_embedding(conditions.float(), spec.backbone.model_channels)


def _pairs(spec: ADMUNet, state: Mapping[str, Tensor]) -> Iterator[tuple[str, str, Tensor]]:
    """(our key, their key, value) of each tensor of a state dict, or of a part of one."""
    layers = dict(_layers(spec))
    for key, value in state.items():
        stem, kind = key.rsplit(".", 1)
        if stem in OUTSIDE:
            yield key, f"{OUTSIDE[stem]}.{kind}", value
            continue
        place = next(ours for ours in (".".join(key.split(".")[:3]), ".".join(key.split(".")[:2])) if ours in layers)
        theirs, layer = layers[place], stem.removeprefix(f"{place}.")
        if ".attentions." not in theirs:
            yield key, f"{theirs}.{RESIDUAL[layer]}.{kind}", value
        elif layer == "qkv":
            in_decoder = place.startswith("output")
            heads = spec.heads(len(value) // 3, in_decoder)
            order, axis = ((3, heads, -1), 0) if spec.use_new_attention_order else ((heads, 3, -1), 1)
            for name, part in zip(("to_q", "to_k", "to_v"), value.squeeze(-1).unflatten(0, order).unbind(axis), strict=True):
                yield key, f"{theirs}.{name}.{kind}", part.flatten(0, 1)
        else:
            yield key, f"{theirs}.{ {'norm': 'group_norm', 'proj_out': 'to_out.0'}[layer] }.{kind}", value.squeeze(-1)


def _layers(spec: ADMUNet) -> Iterator[tuple[str, str]]:
    """Pairs of our layer and theirs, of all layers that are residual or attention, and of those that resample."""
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
    for index in range((last + 1) * (spec.num_res_blocks + 1)):
        up, block = divmod(index, spec.num_res_blocks + 1)
        attends = spec.has_attention(last - up)
        yield f"output_blocks.{index}.0", f"up_blocks.{up}.resnets.{block}"
        if attends:
            yield f"output_blocks.{index}.1", f"up_blocks.{up}.attentions.{block}"
        if up < last and block == spec.num_res_blocks:
            yield f"output_blocks.{index}.{2 if attends else 1}", f"up_blocks.{up}.upsamplers.0"


def _head_channels(spec: ADMUNet, attending: list[bool]) -> int | None:
    widths = [spec.widths[-1], *(width for width, has in zip(spec.widths, attending, strict=True) if has)]
    heads = {(width, spec.heads(width, decoder)) for width in widths for decoder in (False, True)}
    heads -= {(spec.widths[-1], spec.heads(spec.widths[-1], True))} if not attending[-1] else set()
    if all(number == 1 for _, number in heads):
        return None
    channels = {width / number for width, number in heads}
    if len(channels) > 1:
        message = f"heads of {', '.join(f'{one:g}' for one in sorted(channels))} channels; UNet2DModel has as many in every layer"
        raise PartError("num_heads", message)
    return int(channels.pop())


def _multiple(width: int, base: int) -> int | float:
    return width // base if width % base == 0 else width / base
