"""`ExternalNetwork`: the module around a network that etsdm did not make."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from etsdm.backbones.base import Backbone
from etsdm.backbones.network import check_inputs
from etsdm.backbones.signature import Signature
from etsdm.errors import PartError

__all__ = ["ExternalNetwork", "inside_wrapper"]

WRAPPER_KEYS = ("_orig_mod.", "module.")  # before the keys of a network inside torch.compile, or DistributedDataParallel


class ExternalNetwork(nn.Module):
    """A given network as etsdm calls it.

    Its state dict is the network's, each key with `network.` before it and without the prefixes of `torch.compile` and
    `DistributedDataParallel`, and fixed conditions as `condition_NAME`.

    Args:
        spec: channels and classes.
        network, label_argument, signature, conditions: see `External`.
    """

    def __init__(
        self, spec: Backbone, network: Callable[..., Any], label_argument: str, signature: Signature, conditions: Mapping[str, Tensor]
    ) -> None:
        super().__init__()
        self.spec = spec
        self.network = network
        self._label_argument = label_argument
        self._signature = signature
        self._fixed = tuple(conditions)
        # Attributes of a module are found faster than those of a model, and a call by hand has neither.
        self._requires = bool(signature.requires)
        self._one_time = signature.one_time
        self._looks_time_up, self._time_argument = signature.time_dtype != "float32", signature.time_argument
        self._classes, self._in_channels, self._out_channels = spec.num_classes, spec.in_channels, spec.out_channels
        self.register_buffer("_device", torch.empty(0), persistent=False)  # of a network without weights
        for name, value in conditions.items():
            self.register_buffer(f"condition_{name}", value)
        self._prefix = _wrapper_prefix(self.network)
        if self._prefix:
            self.register_state_dict_post_hook(_without_prefix)  # type: ignore[no-untyped-call]
            self.register_load_state_dict_pre_hook(_with_prefix)  # type: ignore[no-untyped-call]

    def forward(self, x: Tensor, time: Tensor, y: Tensor | None = None, **cond: Any) -> Tensor:
        """Evaluates the network.

        Args:
            x: images, (B, in_channels, H, W).
            time: time input, (B,).
            y: class labels, (B,), if and only if `num_classes` is set.
            **cond: passed on with the fixed conditions; floating ones in the dtype of x.

        Returns:
            (B, out_channels, H, W), in the dtype of x.

        Raises:
            ValueError: a shape does not fit, or a label or a condition is missing or not expected.
            TypeError: the network returns no tensor.
        """
        signature, shape = self._signature, x.shape
        if y is not None or self._classes or len(shape) != 4 or shape[1] != self._in_channels or time.shape != shape[:1]:
            check_inputs(self.spec, x, time, y)
        if self._fixed:
            cond.update(self._fixed_conditions(len(x), cond))
        arguments = signature.arguments({name: _in_dtype(value, x.dtype) for name, value in cond.items()}) if cond or self._requires else {}
        if y is not None:
            arguments[self._label_argument] = signature.labels(y, x.dtype)
        if self._looks_time_up:
            time = signature.time(time)
        out = self._of_each_time(x, time, arguments) if self._one_time else self._called(x, time, arguments)
        expected = (shape[0], self._out_channels, shape[2], shape[3])
        if out.shape != expected:
            message = f"the output has shape {tuple(out.shape)}; a network of {expected} is expected"
            raise ValueError(f"backbone: {message}; give External the right shape and out_channels")
        return out if out.dtype == x.dtype else out.to(x.dtype)

    def _called(self, x: Tensor, time: Tensor, arguments: dict[str, Any]) -> Tensor:
        if self._time_argument is None:
            return _sample(self.network(x, time, **arguments))
        return _sample(self.network(x, **{self._time_argument: time, **arguments}))

    def _of_each_time(self, x: Tensor, times: Tensor, arguments: dict[str, Any]) -> Tensor:
        """The output, from one call for each distinct time with the images that have it."""
        distinct, group = times.unique(return_inverse=True)
        if len(distinct) == 1:
            return self._called(x, distinct[0], arguments)
        rows = [(group == i).nonzero()[:, 0] for i in range(len(distinct))]
        outputs = [self._called(x[own], time, _rows(arguments, own, len(x))) for own, time in zip(rows, distinct, strict=True)]
        return torch.cat(outputs)[torch.cat(rows).argsort()]

    def _fixed_conditions(self, rows: int, cond: dict[str, Any]) -> dict[str, Tensor]:
        found = {}
        for name in self._fixed:
            if name in cond:
                raise PartError(name, "is fixed by conditions= already; leave it out of the call")
            value = getattr(self, f"condition_{name}")
            if len(value) not in (1, rows):
                raise PartError(("conditions", name), f"found {len(value)} rows for a batch of {rows}; give one, or one for each image")
            found[name] = value.expand(rows, *value.shape[1:])
        return found


def _in_dtype(value: Any, dtype: torch.dtype) -> Any:
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value


def _rows(value: Any, rows: Tensor, count: int) -> Any:
    """Some rows of each tensor that has one for each of `count` images."""
    if isinstance(value, dict):
        return {key: _rows(each, rows, count) for key, each in value.items()}
    return value[rows] if isinstance(value, Tensor) and value.ndim and len(value) == count else value


def _sample(output: Any) -> Tensor:
    """The tensor in an output of a network of diffusers, or the output itself."""
    if isinstance(output, Tensor):
        return output
    found = getattr(output, "sample", output)
    if isinstance(found, (tuple, list)) and found:
        found = found[0]
    if not isinstance(found, Tensor):
        message = f"the network returned a {type(output).__name__}"
        raise TypeError(f"backbone: {message}; return a tensor, an object with a tensor in .sample, or a tuple that begins with one")
    return found


def _wrapper_prefix(network: Any) -> str:
    prefix = ""
    while (inner := inside_wrapper(network)) is not None:
        prefix, network = prefix + inner[0], inner[1]
    return prefix


def inside_wrapper(network: Any) -> tuple[str, nn.Module] | None:
    """The network inside torch.compile or data parallelism, with the prefix of its keys; None for any other network."""
    kind = type(network)
    if kind.__name__ == "OptimizedModule" and kind.__module__.startswith("torch."):
        return WRAPPER_KEYS[0], network._orig_mod
    if isinstance(network, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
        return WRAPPER_KEYS[1], network.module
    return None


def _without_prefix(module: nn.Module, state: dict[str, Tensor], prefix: str, _: Any) -> None:
    _rename(state, f"{prefix}network.{module._prefix}", f"{prefix}network.")


def _with_prefix(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    _rename(state, f"{prefix}network.", f"{prefix}network.{module._prefix}")


def _rename(state: dict[str, Tensor], old: str, new: str) -> None:
    for key in [key for key in state if key.startswith(old)]:
        state[new + key.removeprefix(old)] = state.pop(key)
