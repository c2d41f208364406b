"""What a network costs: parameters, operations and activations, level by level, without its weights being allocated.

The network runs on the meta device, where a tensor is a shape. Counted are

    parameters     of all kinds, and the bytes of weights and buffers in float32;
    FLOPs          of one forward evaluation of one image: matrix products, convolutions and attention, a multiplication and the
                   addition after it being two; what works element by element is left out;
    activations    the bytes that autograd keeps of a whole batch in float32 for the backward pass, parameters and buffers aside; a
                   tensor counts once, where it is kept first. Attention is by a fused kernel, which does not keep its weights.
                   What the backward pass allocates for gradients comes on top.

With gradient checkpointing the inputs of blocks are kept, and what is outside of blocks; in the backward pass the insides of one
block at a time come back. Both are found by running the network so.

A level is the size of what a module gives: height and width of an image, or the number of tokens. A module that gives neither, as
in the embedding of the time, or gives tokens inside a module that gives an image, belongs to the level of the module around it; the
network as a whole is not counted as around. Blocks are the modules with submodules that the network itself calls.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from etsdm.registry import Frozen

if TYPE_CHECKING:
    from etsdm.backbones.base import Backbone

__all__ = ["Level", "Summary", "summarize"]

FLOAT32_BYTES = 4

Size = tuple[int, ...]


class Level(Frozen):
    """What is at one size.

    Attributes:
        size: (height, width) of images, (number,) of tokens, or () for what has no places: time, label, vectors.
        blocks: modules with submodules that the network itself calls.
        parameters: number of parameters.
        flops: floating-point operations for one image.
        activations: bytes kept for the whole batch.
    """

    size: tuple[PositiveInt, ...]
    blocks: NonNegativeInt
    parameters: NonNegativeInt
    flops: NonNegativeInt
    activations: NonNegativeInt


class Summary(Frozen):
    """What a network costs.

    Attributes:
        batch: images that the activations are for.
        parameters: number of parameters.
        weights: bytes of parameters and buffers in float32.
        flops: floating-point operations of one forward evaluation of one image.
        activations: bytes kept for the backward pass of the whole batch.
        checkpointed: bytes kept of them between the passes with gradient checkpointing.
        largest_block: bytes that come back with the insides of one block, of that with the most; 0 without blocks.
        levels: the same by size, the largest first, what has no places last.
    """

    batch: PositiveInt
    parameters: NonNegativeInt
    weights: NonNegativeInt
    flops: NonNegativeInt
    activations: NonNegativeInt
    checkpointed: NonNegativeInt
    largest_block: NonNegativeInt
    levels: tuple[Level, ...]


def summarize(spec: Backbone, batch: int = 1) -> Summary:
    """Counts what a network costs in training mode at the specification's image size.

    Args:
        spec: what the network is made of.
        batch: number of images.

    Returns:
        The counts.

    Raises:
        ValueError: `batch` is not positive.
    """
    if batch < 1:
        raise ValueError(f"batch: {batch} is no number of images; give 1 or more")
    with torch.device("meta"):
        network: Any = spec.build()
        x, time, cond = spec.empty_inputs(batch)
    with _CallRecorder(network) as root:
        network(x, time, **cond)
    network.gradient_checkpointing = True
    with _CallRecorder(network) as checkpointed:
        network(x, time, **cond)

    totals: dict[Size, Counter[str]] = {}
    homes: dict[nn.Parameter, Size] = {}
    for call, size in root.placed():
        total = totals.setdefault(size, Counter())
        total["blocks"] += call in root.inner and bool(call.inner)
        total["flops"] += call.own_flops
        total["activations"] += call.activations
        for parameter in call.module.parameters(recurse=False):
            homes.setdefault(parameter, size)
    for parameter in network.parameters():
        totals.setdefault(homes.get(parameter, ()), Counter())["parameters"] += parameter.numel()

    order = sorted(totals, key=lambda size: (len(size), size), reverse=True)
    levels = tuple(_level(size, totals[size], batch) for size in order if any(totals[size].values()))
    numbers = [tensor.numel() for tensor in (*network.parameters(), *network.buffers())]
    return Summary(
        batch=batch,
        parameters=sum(level.parameters for level in levels),
        weights=FLOAT32_BYTES * sum(numbers),
        flops=root.flops // batch,
        activations=sum(level.activations for level in levels),
        checkpointed=sum(call.activations for call, _ in checkpointed.placed()),
        # A block that is checkpointed hides what is kept inside it from the second run.
        largest_block=max((a.inside - b.inside for a, b in zip(root.inner, checkpointed.inner, strict=True)), default=0),
        levels=levels,
    )


def _level(size: Size, total: Counter[str], batch: int) -> Level:
    return Level(
        size=size,
        blocks=total["blocks"],
        parameters=total["parameters"],
        flops=total["flops"] // batch,
        activations=total["activations"],
    )


@dataclass(eq=False)
class _Call:
    """One call of a module and those that it makes."""

    module: nn.Module
    flops: int  # before the call, and after it those of the call
    size: Size = ()
    activations: int = 0  # bytes that it is the first to keep, itself and not in an inner call
    given: set[int] = field(default_factory=set)  # storages of its inputs
    kept: dict[int, int] = field(default_factory=dict)  # bytes by storage, of all that is kept in it
    inner: list[_Call] = field(default_factory=list)

    @property
    def own_flops(self) -> int:
        return self.flops - sum(call.flops for call in self.inner)

    @property
    def inside(self) -> int:
        """Bytes kept in it, but for its inputs."""
        return sum(size for storage, size in self.kept.items() if storage not in self.given)

    def placed(self, around: Size = ()) -> Iterator[tuple[_Call, Size]]:
        """Every call from this one inwards, with its level."""
        size = self.size if len(self.size) >= len(around) else around
        yield self, size
        for call in self.inner:
            yield from call.placed(size)


class _CallRecorder:
    """Records the calls of a network's modules, as a tree whose root is the network, and what autograd keeps in them."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._counter = FlopCounterMode(display=False)
        self._keeping = saved_tensors_hooks(self._keep, lambda tensor: tensor)
        self._open: list[_Call] = []
        self._weights = {_storage(tensor) for tensor in (*network.parameters(), *network.buffers())}
        self._kept: set[int] = set()
        self._alive: list[Tensor] = []  # so that no two storages are taken for one

    def __enter__(self) -> _Call:
        self._hooks = []
        for module in self._network.modules():
            self._hooks.append(module.register_forward_pre_hook(self._begin))
            self._hooks.append(module.register_forward_hook(self._end))
        self._root = _Call(self._network, 0)
        self._counter.__enter__()
        self._keeping.__enter__()
        return self._root

    def __exit__(self, *error: Any) -> None:
        self._keeping.__exit__(*error)
        self._counter.__exit__(*error)
        for hook in self._hooks:
            hook.remove()

    def _begin(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        call = _Call(module, self._counter.get_total_flops()) if self._open else self._root
        if self._open:
            self._open[-1].inner.append(call)
        for tensor in inputs:
            if isinstance(tensor, Tensor):
                call.given.add(_storage(tensor))
                self._alive.append(tensor)
        self._open.append(call)

    def _end(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        call = self._open.pop()
        call.flops = self._counter.get_total_flops() - call.flops
        if isinstance(output, Tensor) and call is not self._root:
            call.size = tuple(output.shape[2:]) if output.ndim == 4 else tuple(output.shape[1:2]) if output.ndim == 3 else ()

    def _keep(self, tensor: Tensor) -> Tensor:
        storage = _storage(tensor)
        if storage not in self._weights:
            size = tensor.untyped_storage().nbytes()
            for call in self._open:
                call.kept[storage] = size
            if storage not in self._kept:
                self._kept.add(storage)
                self._open[-1].activations += size
            self._alive.append(tensor)
        return tensor


def _storage(tensor: Tensor) -> int:
    """What tells storages apart that are alive; on the meta device they have no address of data."""
    address: int = tensor.untyped_storage()._cdata
    return address
