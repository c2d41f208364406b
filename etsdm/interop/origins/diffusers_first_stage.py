"""First stages of diffusers, `AutoencoderKL` and `VQModel`, in the layout of latent diffusion.

diffusers keeps the linear maps of attention as matrices, and the levels of the decoder in the order in which they are run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

__all__ = ["from_diffusers_first_stage", "is_diffusers_first_stage"]

_LEVEL = re.compile(r"(encoder|decoder)\.(down|up)_blocks\.(\d{1,3})\.(resnets|attentions|downsamplers|upsamplers)\.(\d{1,3})\.(.+)")
_MIDDLE = re.compile(r"(encoder|decoder)\.mid_block\.(resnets|attentions)\.([01])\.(.+)")
LISTS = {"resnets": "block", "attentions": "attn"}
MIDDLE = {("resnets", "0"): "block_1", ("attentions", "0"): "attn_1", ("resnets", "1"): "block_2"}
# Those of attention have two generations of names.
ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
ATTENTION |= {"query": "q", "key": "k", "value": "v", "proj_attn": "proj_out"}


def is_diffusers_first_stage(tensors: Mapping[str, Tensor]) -> bool:
    """Whether keys are those of diffusers."""
    return any(_LEVEL.match(key) for key in tensors)


def from_diffusers_first_stage(tensors: Mapping[str, Tensor]) -> dict[str, tuple[str, Tensor]]:
    """(their key, value) by key of latent diffusion; keys of other networks come back as they are."""
    levels = 1 + max(int(found[3]) for key in tensors if (found := _LEVEL.match(key)))
    return {_name(key, levels): (key, _value(key, value)) for key, value in tensors.items()}


def _name(key: str, levels: int) -> str:
    if found := _LEVEL.fullmatch(key):
        coder, way, level, kind, index, rest = found.groups()
        number = int(level) if way == "down" else levels - 1 - int(level)
        inner = f"{LISTS[kind]}.{index}" if kind in LISTS else kind.removesuffix("rs")
        return f"{coder}.{way}.{number}.{inner}.{_layer(kind, rest)}"
    if found := _MIDDLE.fullmatch(key):
        coder, kind, index, rest = found.groups()
        return f"{coder}.mid.{MIDDLE.get((kind, index), kind)}.{_layer(kind, rest)}"
    return key.replace("conv_norm_out", "norm_out")


def _layer(kind: str, rest: str) -> str:
    stem, _, last = rest.rpartition(".")
    return f"{ATTENTION.get(stem, stem)}.{last}" if kind == "attentions" else rest.replace("conv_shortcut", "nin_shortcut")


def _value(key: str, value: Tensor) -> Tensor:
    return value[:, :, None, None] if ".attentions." in key and value.ndim == 2 else value
