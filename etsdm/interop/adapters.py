"""Signatures of other libraries' networks, recognised by the name of the class, and what their configurations hold.

diffusers           network(x, timestep=t, class_labels=y, encoder_hidden_states=..., added_cond_kwargs={...}).sample
guided-diffusion    network(x, t, y=y), twice the channels with a learned variance; improved diffusion and CompVis' UNets as well
k-diffusion         denoiser(x, sigma, class_cond=y), which returns x0
edm                 denoiser(x, sigma, class_labels=one_hot(y)), which returns x0
edm-network         network(c_in x, c_noise, class_labels=one_hot(y))
plain               f(x, t, y=y)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from math import isfinite
from typing import Any, NamedTuple

from etsdm.backbones.external_network import inside_wrapper
from etsdm.backbones.signature import Signature
from etsdm.condition_maps.time_inputs import Auto, Scaled, TimeInput
from etsdm.errors import PartError
from etsdm.registry.frozen import suggestion
from etsdm.schedules import EDM, Schedule
from etsdm.targets import X0, Target

__all__ = ["SIGNATURES", "NetworkFacts", "read_network", "unwrapped"]

# Classes of diffusers that are called with x, timesteps and the conditions below; others take packed latents or several images.
DIFFUSERS = (
    *("UNet2DModel", "UNet2DConditionModel", "DiTTransformer2DModel", "Transformer2DModel"),
    *("PixArtTransformer2DModel", "SD3Transformer2DModel"),
)
ADDED = ("text_embeds", "time_ids", "image_embeds", "hint", "resolution", "aspect_ratio")
ADDED_BY_TYPE = {
    "text_image": ("image_embeds",),
    "text_time": ("text_embeds", "time_ids"),
    "image": ("image_embeds",),
    "image_hint": ("image_embeds", "hint"),
}
EDM_DENOISERS = ("VPPrecond", "VEPrecond", "iDDPMPrecond", "EDMPrecond", "Precond")
EDM_NETWORKS = ("SongUNet", "DhariwalUNet")
GUIDED = ("guided_diffusion.unet", "improved_diffusion.unet", "ldm.modules.diffusionmodules.openaimodel")
K_DIFFUSION = "k_diffusion."
LABELS = ("y", "class_labels", "class_label", "labels", "label", "classes", "class_cond")


class NetworkFacts(NamedTuple):
    """The arguments of a network, and what its configuration holds.

    Fields: signature and label_argument, for `External`; labels_required, whether it cannot be called without labels; shape (C, H, W),
    out_channels and num_classes, each None where unknown; schedule, target and time_input, where the signature fixes them.
    """

    signature: Signature = Signature()
    label_argument: str = "y"
    labels_required: bool = False
    shape: tuple[int, int, int] | None = None
    out_channels: int | None = None
    num_classes: int | None = None
    schedule: Schedule | None = None
    target: Target | None = None
    time_input: TimeInput = Auto()


def unwrapped(network: Any) -> Any:
    """The network inside torch.compile and data parallelism."""
    while (inner := inside_wrapper(network)) is not None:
        network = inner[1]
    return network


def read_network(network: Callable[..., Any], signature: str | Signature | None = None) -> NetworkFacts:
    """Arguments and configuration of a network.

    Args:
        network: a module or another callable, possibly inside torch.compile or data parallelism.
        signature: one of `SIGNATURES`, or names and types of the arguments; None to choose by the class, `plain` for an unknown one.

    Raises:
        PartError: the signature is unknown, or the network is of a class of diffusers that is called in another way.
    """
    network = unwrapped(network)
    if isinstance(signature, Signature):
        return _plain(network)._replace(signature=signature)
    if signature is None:
        signature = _recognised(network)
    elif signature not in SIGNATURES:
        raise PartError("signature", f"{signature!r} is unknown; {suggestion(str(signature), SIGNATURES, 'known')}")
    return SIGNATURES[signature](network)


def _recognised(network: Any) -> str:
    for module, name in _classes(network):
        if module.startswith("diffusers."):
            if name in DIFFUSERS:
                return "diffusers"
        elif name in EDM_DENOISERS and hasattr(network, "img_resolution"):
            return "edm"
        elif name in EDM_NETWORKS and hasattr(network, "map_noise"):
            return "edm-network"
        elif module.startswith(K_DIFFUSION) and name.endswith("Denoiser"):
            return "k-diffusion"
        elif module in GUIDED and name in ("UNetModel", "SuperResModel"):
            return "guided-diffusion"
    if any(module.startswith("diffusers.models.") and name == "ModelMixin" for module, name in _classes(network)):
        message = f"{type(network).__name__} of diffusers is none of {', '.join(DIFFUSERS)}"
        mend = "give 'diffusers' if it is called with x and timestep=, or a function f(x, t) that calls it"
        raise PartError("signature", f"{message}; {mend}")
    return "plain"


def _classes(network: Any) -> Iterator[tuple[str, str]]:
    """Module and name of a network's class and of its bases."""
    return ((kind.__module__, kind.__name__) for kind in type(network).__mro__)


def _diffusers(network: Any) -> NetworkFacts:
    config: Mapping[str, Any] = getattr(network, "config", {})
    name = next((name for module, name in _classes(network) if module.startswith("diffusers.") and name in DIFFUSERS), "")
    classes = config.get("num_class_embeds") if config.get("class_embed_type") is None else None
    if config.get("norm_type") == "ada_norm_zero":
        classes = config["num_embeds_ada_norm"] + 1  # its null class is the last
    channels, out_channels = config.get("in_channels"), config.get("out_channels") or config.get("in_channels")
    if channels is not None and out_channels not in (channels, 2 * channels):
        message = f"{type(network).__name__} takes {channels} channels and returns {out_channels}: its input is more than the noisy image"
        raise PartError("network", f"{message}; give a function f(x, t) that adds the rest, with shape=")
    # Looks one timestep up for all images of a batch; in older configurations ada_norm is called layer_norm.
    ada_norm = config.get("norm_type") in ("ada_norm", "layer_norm") and config.get("num_embeds_ada_norm") is not None
    return NetworkFacts(
        Signature(
            time_argument="timestep",
            time_dtype="int64" if ada_norm or config.get("time_embedding_type") == "learned" else "float32",
            one_time=ada_norm,
            groups=tuple((added, "added_cond_kwargs") for added in ADDED),
            requires=_required(name, network, config),
        ),
        "class_labels",
        shape=_shape(channels, config.get("sample_size")),
        out_channels=out_channels,
        num_classes=classes,
    )


def _required(name: str, network: Any, config: Mapping[str, Any]) -> tuple[str, ...]:
    """Conditions that a network of diffusers cannot do without, class labels aside."""
    match name:
        case "UNet2DModel" | "DiTTransformer2DModel":
            return ()
        case "SD3Transformer2DModel":
            return "encoder_hidden_states", "pooled_projections"
    states = () if config.get("cross_attention_dim") is None else ("encoder_hidden_states",)
    sizes = ("resolution", "aspect_ratio") if getattr(network, "use_additional_conditions", False) else ()
    return (*states, *sizes, *ADDED_BY_TYPE.get(str(config.get("addition_embed_type")), ()))


def _guided(network: Any) -> NetworkFacts:
    requires: tuple[str, ...] = ()
    channels = getattr(network, "in_channels", None)
    if any(name == "SuperResModel" for _, name in _classes(network)):
        requires, channels = ("low_res",), None if channels is None else channels // 2
    if any(name == "CrossAttention" for module in _modules(network) for _, name in _classes(module)):
        requires = ("context",)
    classes = getattr(network, "num_classes", None)
    return NetworkFacts(
        Signature(requires=requires),
        shape=_shape(channels, getattr(network, "image_size", None)),
        out_channels=getattr(network, "out_channels", None),
        num_classes=classes if isinstance(classes, int) else None,
    )


def _k_diffusion(network: Any) -> NetworkFacts:
    return NetworkFacts(label_argument="class_cond", **_returns_x0(network))


def _edm(network: Any) -> NetworkFacts:
    classes = getattr(network, "label_dim", 0) or None
    shape = _shape(getattr(network, "img_channels", None), getattr(network, "img_resolution", None))
    return NetworkFacts(Signature(one_hot=classes), "class_labels", shape=shape, num_classes=classes, **_returns_x0(network))


def _edm_network(network: Any) -> NetworkFacts:
    mapping = getattr(network, "map_label", None)
    classes = None if mapping is None else getattr(mapping, "in_features", None)
    return NetworkFacts(Signature(one_hot=classes), "class_labels", num_classes=classes)


def _returns_x0(network: Any) -> dict[str, Any]:
    """Parts of a denoiser that takes x0 + sigma eps and sigma, and returns x0."""
    largest = float(getattr(network, "sigma_max", "inf"))
    schedule = EDM(sigma_max=largest) if isfinite(largest) and largest > 0 else EDM()
    return {"schedule": schedule, "target": X0(), "time_input": Scaled(factor=1.0)}


def _plain(network: Any) -> NetworkFacts:
    try:
        parameters = list(inspect.signature(getattr(network, "forward", network)).parameters.values())
    except (TypeError, ValueError):  # a builtin
        return NetworkFacts()
    named = [each for each in parameters[2:] if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
    required = tuple(each.name for each in named if each.default is each.empty)
    labels = next((each.name for each in named if each.name in LABELS), "y")
    return NetworkFacts(Signature(requires=tuple(name for name in required if name != labels)), labels, labels in required)


def _modules(network: Any) -> Iterator[Any]:
    return network.modules() if hasattr(network, "modules") else iter(())


def _shape(channels: Any, size: Any) -> tuple[int, int, int] | None:
    if channels is None or size is None:
        return None
    height, width = (size, size) if isinstance(size, int) else size
    return int(channels), int(height), int(width)


SIGNATURES: dict[str, Callable[[Any], NetworkFacts]] = {
    "diffusers": _diffusers,
    "guided-diffusion": _guided,
    "k-diffusion": _k_diffusion,
    "edm": _edm,
    "edm-network": _edm_network,
    "plain": _plain,
}
