"""`External`: a network that etsdm did not make, as a backbone.

    unet = diffusers.UNet2DModel(...)
    spec = DenoiserSpec(schedule="linear", backbone=External(unet, shape=(3, 32, 32)))

The network is called as `f(x, time, **cond)`, or as its `Signature` describes. Outputs of diffusers, an object with `.sample` or a tuple
that begins with the sample, are converted to the tensor here and nowhere else. `etsdm.wrap` makes one of a network of a known class.
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
from etsdm.backbones.external_network import ExternalNetwork
from etsdm.backbones.signature import Signature
from etsdm.registry import field_error
from etsdm.registry.counts import Channels, Classes, ImageSize

__all__ = ["External", "ExternalNetwork"]


class External(Backbone):
    """A given network: an `nn.Module`, or a callable without weights of its own.

    `build` wraps the network itself, not a copy: its weights stay as they are, whatever the seed of a denoiser, and training,
    `eval`, and moves to a device change the given module. Two are equal if they hold the same module.

    It cannot be written into a recipe. Checkpoints hold its weights and fixed conditions, and are read with
    `etsdm.load(folder, backbone=network)`.

    Args:
        network: called as `network(x, time, **cond)` with x of shape (B, C, H, W) and `time` of shape (B,), float32.
        shape: (C, H, W) of its input; it may take other sizes.
        out_channels: channels of its output; C by default, 2 C with a learned variance.
        num_classes: number of class labels, the null class included; None for an unconditional network.
        label_argument: name under which it takes the labels, (B,); "class_labels" in diffusers.
        signature: its other arguments, where they are not those above.
        conditions: fixed conditions by name, tensors of one row for all images, (1, ...), or of B rows for batches of B images.
        bounded: whether clean x lie in [-1, 1], as images do and latents do not.
    """

    network: Callable[..., Any] = Field(repr=False)
    in_channels: Channels
    out_channels: Channels
    image_size: ImageSize
    width: ImageSize
    num_classes: Classes | None = None
    label_argument: str = "y"
    signature: Signature = Signature()
    conditions: Mapping[str, Any] = Field(default_factory=dict, repr=False)
    bounded: bool = True

    def __init__(
        self,
        network: Callable[..., Any],
        shape: tuple[int, int, int],
        *,
        out_channels: int | None = None,
        num_classes: int | None = None,
        label_argument: str = "y",
        signature: Signature | Mapping[str, Any] | None = None,
        conditions: Mapping[str, Tensor] | None = None,
        bounded: bool = True,
    ) -> None:
        if len(shape) != 3:
            raise field_error("External", ("shape",), f"found {tuple(shape)}; give (channels, height, width)", shape)
        fields: dict[str, Any] = {
            "network": network,
            "in_channels": shape[0],
            "out_channels": shape[0] if out_channels is None else out_channels,
            "image_size": shape[1],
            "width": shape[2],
            "num_classes": num_classes,
            "label_argument": label_argument,
            "signature": Signature() if signature is None else signature,
            "conditions": _checked(conditions or {}),
            "bounded": bounded,
        }
        super().__init__(**fields)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the input."""
        return self.in_channels, self.image_size, self.width

    @property
    def divisor(self) -> int:
        return 1

    def record(self) -> dict[str, Any]:
        """JSON values from which `from_record` makes an equal part, given the network; of fixed conditions shapes and dtypes alone."""
        record = {"type": self.type_name, "shape": list(self.shape), **self._options()}
        if self.signature != Signature():
            record["signature"] = self.signature.model_dump(mode="json")
        if self.conditions:
            record["conditions"] = {
                name: {"shape": list(value.shape), "dtype": str(value.dtype).removeprefix("torch.")}
                for name, value in self.conditions.items()
            }
        if not self.bounded:
            record["bounded"] = False
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Any], network: Callable[..., Any]) -> Self:
        """Inverse of `record`; fixed conditions are zeros until the state dict of a checkpoint is loaded.

        Raises: ValueError if a field is missing, unknown or out of range.
        """
        options = {key: value for key, value in record.items() if key != "type"}
        try:
            if "conditions" in options:
                options["conditions"] = {
                    name: torch.zeros(described["shape"], dtype=getattr(torch, described["dtype"]))
                    for name, described in options["conditions"].items()
                }
            return cls(network, **options)
        except (TypeError, AttributeError, KeyError, RuntimeError) as error:
            raise ValueError(f"backbone: {error}") from None

    def build(self) -> ExternalNetwork:
        return ExternalNetwork(self, self.network, self.label_argument, self.signature, self.conditions)

    def build_on_meta(self) -> ExternalNetwork:
        network = self.build()
        on_meta: dict[int, Tensor] = {id(weight): nn.Parameter(weight.to("meta"), weight.requires_grad) for weight in network.parameters()}
        on_meta.update({id(buffer): buffer.to("meta") for buffer in network.buffers()})
        return copy.deepcopy(network, on_meta)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        return type(self)(**{"network": self.network, "shape": self.shape, **self._options(), **self._call(), **(update or {})})

    @model_serializer(mode="wrap")
    def _put_on_type(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        raise PydanticSerializationError(
            f"model.backbone: {type(self.network).__name__} is an external network, which no recipe can hold; "
            "register a Backbone part that builds it, or pass the network in Python"
        )

    def _options(self) -> dict[str, Any]:
        return {"out_channels": self.out_channels, "num_classes": self.num_classes, "label_argument": self.label_argument}

    def _call(self) -> dict[str, Any]:
        return {"signature": self.signature, "conditions": self.conditions, "bounded": self.bounded}

    def _values(self) -> tuple[Any, ...]:
        fixed = tuple((name, id(value)) for name, value in self.conditions.items())
        return (id(self.network), self.shape, *self._options().values(), self.signature, fixed, self.bounded)


External.type_name = "external"  # not registered, because a name in a recipe would not say which network


def _checked(conditions: Mapping[str, Any]) -> dict[str, Tensor]:
    for name, value in conditions.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise field_error("External", ("conditions",), f"{name!r} is no name of an argument; give names such as encoder_hidden_states")
        if not isinstance(value, Tensor) or value.ndim < 1:
            found = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
            raise field_error(
                "External", ("conditions", name), f"found {found}; give a tensor with a row for all images, (1, ...), or one each"
            )
    return dict(conditions)
