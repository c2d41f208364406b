"""`External`: a network that etsdm did not make, as a backbone.

    unet = diffusers.UNet2DModel(...)
    spec = DenoiserSpec(schedule="linear", backbone=External(unet, shape=(3, 32, 32)))

The network is called as `f(x, time, **cond)`. Outputs of diffusers, an object with `.sample` or a tuple that begins with the sample,
are converted to the tensor here and nowhere else.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer
from pydantic_core import PydanticSerializationError
from torch import Tensor, nn

from etsdm.backbones.base import Backbone
from etsdm.backbones.network import check_inputs
from etsdm.registry import field_error
from etsdm.registry.counts import Channels, Classes, ImageSize

__all__ = ["External", "ExternalNetwork"]


class External(Backbone):
    """A given network: an `nn.Module`, or a callable without weights of its own.

    `build` wraps the network itself, not a copy: its weights stay as they are, whatever the seed of a denoiser, and training,
    `eval`, and moves to a device change the given module. Two are equal if they hold the same module.

    It cannot be written into a recipe. Checkpoints hold its weights, and are read with `etsdm.load(folder, backbone=network)`.

    Args:
        network: called as `network(x, time, **cond)` with x of shape (B, C, H, W) and `time` of shape (B,), float32.
        shape: (C, H, W) of its input, H = W; it may take other sizes.
        out_channels: channels of its output; C by default, 2 C with a learned variance.
        num_classes: number of class labels, the null class included; None for an unconditional network.
        label_argument: name under which it takes the labels, (B,); "class_labels" in diffusers.
    """

    network: Callable[..., Any] = Field(repr=False)
    in_channels: Channels
    out_channels: Channels
    image_size: ImageSize
    num_classes: Classes | None = None
    label_argument: str = "y"

    def __init__(
        self,
        network: Callable[..., Any],
        shape: tuple[int, int, int],
        *,
        out_channels: int | None = None,
        num_classes: int | None = None,
        label_argument: str = "y",
    ) -> None:
        if len(shape) != 3 or shape[1] != shape[2]:
            message = f"found {tuple(shape)}; give (channels, height, width) with height and width equal"
            raise field_error("External", ("shape",), message, shape)
        fields: dict[str, Any] = {
            "network": network,
            "in_channels": shape[0],
            "out_channels": shape[0] if out_channels is None else out_channels,
            "image_size": shape[1],
            "num_classes": num_classes,
            "label_argument": label_argument,
        }
        super().__init__(**fields)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the input."""
        return self.in_channels, self.image_size, self.image_size

    @property
    def divisor(self) -> int:
        return 1

    def record(self) -> dict[str, Any]:
        """JSON values from which `from_record` makes an equal part, given the network."""
        return {"type": self.type_name, "shape": list(self.shape), **self._options()}

    @classmethod
    def from_record(cls, record: Mapping[str, Any], network: Callable[..., Any]) -> Self:
        """Inverse of `record`. Raises: ValueError if a field is missing, unknown or out of range."""
        options = {key: value for key, value in record.items() if key != "type"}
        try:
            return cls(network, **options)
        except TypeError as error:
            raise ValueError(f"backbone: {error}") from None

    def build(self) -> ExternalNetwork:
        return ExternalNetwork(self)

    def build_on_meta(self) -> ExternalNetwork:
        network = self.build()
        on_meta: dict[int, Tensor] = {id(weight): nn.Parameter(weight.to("meta"), weight.requires_grad) for weight in network.parameters()}
        on_meta.update({id(buffer): buffer.to("meta") for buffer in network.buffers()})
        return copy.deepcopy(network, on_meta)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        return type(self)(**{"network": self.network, "shape": self.shape, **self._options(), **(update or {})})

    @model_serializer(mode="wrap")
    def _put_on_type(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        raise PydanticSerializationError(
            f"model.backbone: {type(self.network).__name__} is an external network, which no recipe can hold; "
            "register a Backbone part that builds it, or pass the network in Python"
        )

    def _options(self) -> dict[str, Any]:
        return {"out_channels": self.out_channels, "num_classes": self.num_classes, "label_argument": self.label_argument}

    def _values(self) -> tuple[Any, ...]:
        return (id(self.network), self.shape, *self._options().values())


External.type_name = "external"  # not registered, because a name in a recipe would not say which network


class ExternalNetwork(nn.Module):
    """A given network as etsdm calls it. Its state dict is the network's, each key with `network.` before it."""

    def __init__(self, spec: External) -> None:
        super().__init__()
        self.spec = spec
        self.network = spec.network
        self.register_buffer("_device", torch.empty(0), persistent=False)  # of a network without weights

    def forward(self, x: Tensor, time: Tensor, y: Tensor | None = None, **cond: Any) -> Tensor:
        """Evaluates the network.

        Args:
            x: images, (B, in_channels, H, W).
            time: time input, (B,).
            y: class labels, (B,), if and only if `num_classes` is set.
            **cond: passed on.

        Returns:
            (B, out_channels, H, W), in the dtype of x.

        Raises:
            ValueError: a shape does not fit, or a label is missing or not expected.
            TypeError: the network returns no tensor.
        """
        check_inputs(self.spec, x, time, y)
        if y is not None:
            cond[self.spec.label_argument] = y
        out = _sample(self.network(x, time, **cond))
        expected = (x.shape[0], self.spec.out_channels, *x.shape[2:])
        if out.shape != expected:
            message = f"the output has shape {tuple(out.shape)}; a network of {expected} is expected"
            raise ValueError(f"backbone: {message}; give External the right shape and out_channels")
        return out.to(x.dtype)


def _sample(output: Any) -> Tensor:
    """The tensor in an output of a network of diffusers, or the output itself."""
    found = getattr(output, "sample", output) if not isinstance(output, Tensor) else output
    if isinstance(found, (tuple, list)) and found:
        found = found[0]
    if not isinstance(found, Tensor):
        message = f"the network returned a {type(output).__name__}"
        raise TypeError(f"backbone: {message}; return a tensor, an object with a tensor in .sample, or a tuple that begins with one")
    return found
