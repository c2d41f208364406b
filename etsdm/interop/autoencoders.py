"""diffusers' `AutoencoderKL` and `VQModel` as first stages: their weights in etsdm's `kl` and `vq`, in float32.

The latents of diffusers' pipelines are z = scaling_factor (latent - shift_factor); the shift, of Stable Diffusion 3 and Flux, goes into the
biases of the 1x1 convolutions at the latent, `quant_conv` and `post_quant_conv`, which are identities where an autoencoder has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from etsdm.backbones.first_stages import Autoencoder, FirstStageNetwork
from etsdm.errors import PartError
from etsdm.registry import first_stages, format_errors

__all__ = ["first_stage_of"]

KINDS = {"AutoencoderKL": "kl", "VQModel": "vq"}
# Values that configurations of the convertible architecture have.
FIXED = {
    "act_fn": "silu",
    "norm_type": "group",
    "latents_mean": None,
    "latents_std": None,
    "lookup_from_codebook": False,
}
ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}


def first_stage_of(autoencoder: Any, latent_size: int) -> FirstStageNetwork:
    """The first stage that computes what an autoencoder of diffusers does.

    Args:
        autoencoder: an `AutoencoderKL` or a `VQModel`.
        latent_size: height and width of the latents.

    Raises:
        PartError: it is another kind, or has a layer that etsdm's first stages have not.
    """
    name, config = type(autoencoder).__name__, getattr(autoencoder, "config", {})
    if name not in KINDS:
        raise _refused(f"found a {name}, none of {', '.join(KINDS)}")
    for key, value in FIXED.items():
        if config.get(key, value) != value:
            raise _refused(f"{name} has {key} {config[key]!r}, and only {value!r} is known")
    try:
        spec: Autoencoder = first_stages.create(KINDS[name], **_fields(config, latent_size))
    except (ValidationError, ValueError) as error:
        reason = format_errors(error)[0].message if isinstance(error, ValidationError) else str(error)
        raise _refused(f"{name}: {reason}") from None
    with torch.device("meta"):
        network = spec.build()
    theirs = {key: value.detach().float().cpu().clone() for key, value in autoencoder.state_dict().items()}
    for layer, used in (("quant_conv", "use_quant_conv"), ("post_quant_conv", "use_post_quant_conv")):
        if not config.get(used, True):
            channels = spec.latent_channels * (2 if layer == "quant_conv" else 1)
            theirs |= {f"{layer}.weight": torch.eye(channels), f"{layer}.bias": torch.zeros(channels)}
    weights: dict[str, Tensor] = {}
    for key, value in network.state_dict().items():
        found = theirs.pop(_their_key(key, len(spec.widths)), None)
        if found is None or found.numel() != value.numel():
            raise _refused(f"{name} has no weight for {key!r} of {KINDS[name]!r}")
        weights[key] = found.reshape(value.shape)  # their attention has matrices where ours has 1x1 convolutions
    if theirs:
        raise _refused(f"{name} has a weight more, {min(theirs)!r}")
    if shift := config.get("shift_factor"):
        _put_shift(weights, shift)
    network.load_state_dict(weights, assign=True)
    return network


def _put_shift(weights: dict[str, Tensor], shift: float) -> None:
    """Moves the means of the encoder by -shift and the input of the decoder by shift."""
    means, into = weights["quant_conv.bias"], weights["post_quant_conv.weight"].double().sum((1, 2, 3))
    means[: len(means) // 2] -= shift
    weights["post_quant_conv.bias"] = (weights["post_quant_conv.bias"].double() + shift * into).float()


def _refused(message: str) -> PartError:
    mend = "give the network alone to wrap, with schedule= and target=, whose samples are latents"
    return PartError("first_stage", f"{message}; {mend}")


def _fields(config: Mapping[str, Any], latent_size: int) -> dict[str, Any]:
    widths = list(config["block_out_channels"])
    size = latent_size << (len(widths) - 1)
    attends = ["Attn" in kind for kind in config["down_block_types"]]
    fields: dict[str, Any] = {
        "resolution": size,
        "in_channels": config["in_channels"],
        "out_ch": config["out_channels"],
        "ch": widths[0],
        "num_res_blocks": config["layers_per_block"],
        "attn_resolutions": tuple(size >> level for level, attending in enumerate(attends) if attending),
        "attn_type": "vanilla" if config.get("mid_block_add_attention", True) else "none",
        "z_channels": config["latent_channels"],
        "norm_groups": config["norm_num_groups"],
        "scale_factor": config["scaling_factor"],
    }
    if any(width % widths[0] for width in widths):
        raise ValueError(f"its widths {widths} are no multiples of the first")
    fields["ch_mult"] = tuple(width // widths[0] for width in widths)
    if "num_vq_embeddings" in config:
        fields |= {"n_embed": config["num_vq_embeddings"], "embed_dim": config["vq_embed_dim"] or config["latent_channels"]}
    return fields


def _their_key(key: str, levels: int) -> str:
    """The key in diffusers of a weight of a first stage."""
    match key.split("."):
        case [coder, ("down" | "up") as way, level, kind, *rest]:
            at = int(level) if way == "down" else levels - 1 - int(level)
            layer = {"block": ["resnets"], "attn": ["attentions"]}.get(kind, [f"{kind}rs", "0"])
            name = [coder, f"{way}_blocks", str(at), *layer, *rest]
        case [coder, "mid", layer, *rest]:
            block = {"block_1": ["resnets", "0"], "attn_1": ["attentions", "0"], "block_2": ["resnets", "1"]}[layer]
            name = [coder, "mid_block", *block, *rest]
        case [coder, "norm_out", kind]:
            name = [coder, "conv_norm_out", kind]
        case other:
            name = other
    if "attentions" in name:
        name = [*name[:-2], ATTENTION[name[-2]], name[-1]]
    return ".".join(name).replace("nin_shortcut", "conv_shortcut")
