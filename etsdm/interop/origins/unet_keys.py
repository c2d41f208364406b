"""Fields of `adm-unet` and `ldm-unet` from the keys and shapes of a state dict in guided-diffusion's layout.

With n residual blocks and L levels the encoder has 1 + n L + (L - 1) blocks and the decoder (n + 1) L; each level of either is n + 1
long, with its resampling at the end. Shapes do not hold the attention heads, the order of query, key and value, the image size and the
groups of the norms; the first three are those of a published network with the same shapes.
"""

from __future__ import annotations

import math
import re
import warnings
from pathlib import Path
from typing import Any

from etsdm.backbones import Backbone
from etsdm.errors import CheckpointError
from etsdm.interop.conversion import Shapes, shapes_of
from etsdm.registry import backbones

__all__ = ["preset_of", "unet_fields"]

_BLOCK = re.compile(r"(input|output)_blocks\.(\d{1,4})\.(\d)\.")
FIRST = "input_blocks.0.0.weight"
LABELS = "label_emb.weight"


def unet_fields(path: Path, shapes: Shapes, name: str) -> dict[str, Any]:
    """Fields that shapes determine.

    Args:
        path: of the source, for messages.
        shapes: of the UNet's state dict, by key.
        name: the original in a message.

    Raises:
        CheckpointError: the keys are not of such a UNet.
    """
    try:
        return _fields(shapes)
    except (KeyError, ValueError, IndexError, ZeroDivisionError) as error:
        reason = f"key {error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(f"{path}: is no UNet of {name}: {reason}; give the file of one, or wrap the network instead") from None


def preset_of(shapes: Shapes, names: tuple[str, ...]) -> str | None:
    """The first of some published networks that has exactly these keys and shapes, None without one."""
    for name in names:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            spec: Backbone = backbones.create(name)
        first, last = shapes.get(FIRST, ()), shapes.get("out.2.weight", ())
        ends = first[1:2] == (spec.in_channels,) and last[:1] == (spec.out_channels,)
        if ends and shapes_of(spec.build_on_meta().state_dict()) == dict(shapes):
            return name
    return None


def _fields(shapes: Shapes) -> dict[str, Any]:
    layers: dict[tuple[str, int], set[int]] = {}
    for key in shapes:
        if found := _BLOCK.match(key):
            layers.setdefault((found[1], int(found[2])), set()).add(int(found[3]))
    total = 1 + max((i for side, i in layers if side == "output"), default=-1)
    if not total:
        raise KeyError("output_blocks.0.0.in_layers.0.weight")
    blocks = _residual_blocks(shapes, layers, total)
    if blocks < 1 or total % (blocks + 1):
        raise ValueError(f"its {total} blocks of the decoder are no levels of {blocks + 1}")
    levels = total // (blocks + 1)
    starts = [1 + level * (blocks + 1) for level in range(levels)]
    base, embed = shapes["time_embed.0.weight"][1], shapes["time_embed.0.weight"][0]
    widths = [shapes[f"input_blocks.{start}.0.out_layers.3.weight"][0] for start in starts]
    down = None if levels == 1 else f"input_blocks.{starts[1] - 1}.0."
    fields: dict[str, Any] = {
        "in_channels": shapes[FIRST][1],
        "out_channels": shapes["out.2.weight"][0],
        "model_channels": base,
        "num_res_blocks": blocks,
        "channel_mult": [_multiple(width, base) for width in widths],
        "attention_resolutions": [1 << level for level, start in enumerate(starts) if 1 in layers[("input", start)]],
        "use_scale_shift_norm": shapes[f"input_blocks.{starts[0]}.0.emb_layers.1.weight"][0] == 2 * widths[0],
        "resblock_updown": down is not None and f"{down}in_layers.0.weight" in shapes,
        "conv_resample": down is None or f"{down}op.weight" in shapes or f"{down}in_layers.0.weight" in shapes,
    }
    if embed != 4 * base:
        fields["time_embed_dim"] = embed
    if LABELS in shapes:
        fields["num_classes"] = shapes[LABELS][0]
    return fields | _transformer_fields(shapes)


def _residual_blocks(shapes: Shapes, layers: dict[tuple[str, int], set[int]], total: int) -> int:
    """n, from the first block of the decoder that resamples, or the first gap in the encoder where resampling has no weights."""
    for i in range(total):
        for layer in sorted(layers.get(("output", i), set()) - {0}):
            place = f"output_blocks.{i}.{layer}."
            if f"{place}conv.weight" in shapes or f"{place}in_layers.0.weight" in shapes:
                return i
    gap = next((i for i in range(1, total) if ("input", i) not in layers), None)
    return total - 1 if gap is None else gap - 1


def _transformer_fields(shapes: Shapes) -> dict[str, Any]:
    place = "middle_block.1.transformer_blocks."
    found = {int(key.removeprefix(place).split(".")[0]) for key in shapes if key.startswith(place)}
    if not found:
        return {}
    context = shapes[f"{place}0.attn2.to_k.weight"][1]
    return {"use_spatial_transformer": True, "transformer_depth": len(found), "context_dim": context}


def _multiple(width: int, base: int) -> int | float:
    if width % base == 0:
        return width // base
    ratio = width / base
    return ratio if int(ratio * base) == width else math.nextafter(ratio, math.inf)
