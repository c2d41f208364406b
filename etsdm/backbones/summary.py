"""Cost of a network on the meta device, where tensors have shapes and no data.

    parameters     number of them; bytes of weights and buffers in float32
    FLOPs          of one forward pass of one image: matrix products, convolutions and attention, a multiply-add being two;
                   elementwise operations are left out
    activations    bytes that autograd saves of a batch in float32 for the backward pass, without parameters and buffers; each tensor
                   counts once. Attention is a fused kernel, which does not save its weights. Gradients come on top.

With gradient checkpointing the inputs of blocks are saved, and everything outside of blocks; the backward pass recomputes one block at
a time. Both are counted by running the network that way.

A level is the size of a module's output: height and width of an image, or the number of tokens. Modules with another output, as in the
time embedding, and modules of tokens inside a module of images, belong to the level of the enclosing module; the network itself has
none. Blocks are the modules with submodules that the network itself calls.
"""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, UntypedStorage, nn
from torch.autograd.graph import saved_tensors_hooks

from etsdm.registry import Frozen

__all__ = ["LevelCost", "Summary", "summarize"]

FLOAT32_BYTES = 4

Size = tuple[int, ...]


class LevelCost(Frozen):
    """Cost of one level of a network.

    Attributes:
        size: (height, width) of images, (number,) of tokens, or () of vectors, such as the embeddings of time and label.
        blocks: number of blocks.
        parameters: number of parameters.
        flops: floating-point operations for one image.
        activations: bytes saved for the whole batch.
    """

    size: tuple[PositiveInt, ...]
    blocks: NonNegativeInt
    parameters: NonNegativeInt
    flops: NonNegativeInt
    activations: NonNegativeInt


class Summary(Frozen):
    """Cost of a network.

    Attributes:
        batch: number of images of the activations.
        parameters: number of parameters.
        weights: bytes of parameters and buffers in float32.
        flops: floating-point operations of one forward pass of one image.
        activations: bytes saved for the backward pass of the whole batch.
        checkpointed: bytes saved with gradient checkpointing.
        peak_recompute: largest activation memory, in bytes, that one checkpointed block recomputes in the backward pass; 0 without
            blocks.
        levels: cost of each level, the largest first, vectors last.
    """

    batch: PositiveInt
    parameters: NonNegativeInt
    weights: NonNegativeInt
    flops: NonNegativeInt
    activations: NonNegativeInt
    checkpointed: NonNegativeInt
    peak_recompute: NonNegativeInt
    levels: tuple[LevelCost, ...]


def summarize(network: nn.Module, x: Tensor, time: Tensor, cond: dict[str, Tensor]) -> Summary:
    """Counts the cost of a network.

    Args:
        network: on the meta device. Its attribute `gradient_checkpointing` is set.
        x: images, (B, C, H, W).
        time: time inputs, (B,).
        cond: its other arguments.
    """
    root: Any = network
    root.gradient_checkpointing = False
    calls = _run(network, x, time, cond)
    root.gradient_checkpointing = True
    checkpointed = _run(network, x, time, cond)
    parameters = list(network.parameters())
    blocks = zip(_direct(calls), _direct(checkpointed), strict=True)
    return Summary(
        batch=len(x),
        parameters=sum(parameter.numel() for parameter in parameters),
        weights=FLOAT32_BYTES * sum(tensor.numel() for tensor in (*parameters, *network.buffers())),
        flops=sum(call.flops for call in calls) // len(x),
        activations=sum(call.activations for call in calls),
        checkpointed=sum(call.activations for call in checkpointed),
        # A checkpointed block hides what is saved inside it from the second run.
        peak_recompute=max((plain.inside - other.inside for plain, other in blocks), default=0),
        levels=_levels(network, calls, len(x)),
    )


def _levels(network: nn.Module, calls: list[_Call], batch: int) -> tuple[LevelCost, ...]:
    totals: dict[Size, Counter[str]] = {}
    levels: dict[nn.Parameter, Size] = {}
    for call in calls:
        total = totals.setdefault(call.level, Counter())
        total["blocks"] += call.is_block
        total["flops"] += call.flops
        total["activations"] += call.activations
        for parameter in call.module.parameters(recurse=False):
            levels.setdefault(parameter, call.level)
    for parameter in network.parameters():
        totals.setdefault(levels.get(parameter, ()), Counter())["parameters"] += parameter.numel()
    return tuple(
        LevelCost(
            size=size,
            blocks=total["blocks"],
            parameters=total["parameters"],
            flops=total["flops"] // batch,
            activations=total["activations"],
        )
        for size, total in sorted(totals.items(), key=lambda item: (len(item[0]), item[0]), reverse=True)
        if any(total.values())
    )


@dataclass(eq=False)
class _Call:
    """One call of a module; flops and activations without those of inner calls."""

    module: nn.Module
    caller: _Call | None = None
    inputs: set[UntypedStorage] = field(default_factory=set)
    size: Size = ()
    flops: int = 0
    activations: int = 0  # bytes that no earlier call saved
    saved: set[UntypedStorage] = field(default_factory=set)  # in inner calls, too

    @property
    def is_direct(self) -> bool:
        """Whether the network itself calls the module."""
        return self.caller is not None and self.caller.caller is None

    @property
    def is_block(self) -> bool:
        return self.is_direct and any(True for _ in self.module.children())

    @property
    def level(self) -> Size:
        around = self.caller.level if self.caller else ()
        return self.size if len(self.size) >= len(around) else around

    @property
    def inside(self) -> int:
        """Bytes saved in it, without its inputs."""
        return sum(storage.nbytes() for storage in self.saved - self.inputs)


def _direct(calls: list[_Call]) -> list[_Call]:
    return [call for call in calls if call.is_direct]


def _run(network: nn.Module, x: Tensor, time: Tensor, cond: dict[str, Tensor]) -> list[_Call]:
    """Runs a network and records its calls of modules in their order, the network's own first."""
    from torch.utils.flop_counter import FlopCounterMode  # on demand, because it is slow to import

    counter = FlopCounterMode(display=False)
    weights = {tensor.untyped_storage() for tensor in (*network.parameters(), *network.buffers())}
    known = set(weights)
    calls: list[_Call] = []
    running: list[_Call] = []
    attributed = 0

    def attribute_flops() -> None:
        nonlocal attributed
        total = counter.get_total_flops()
        if running:
            running[-1].flops += total - attributed
        attributed = total

    def begin(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        attribute_flops()
        storages = {tensor.untyped_storage() for tensor in inputs if isinstance(tensor, Tensor)}
        calls.append(_Call(module, running[-1] if running else None, storages))
        running.append(calls[-1])

    def end(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        attribute_flops()
        call = running.pop()
        if isinstance(output, Tensor) and call.caller is not None:
            call.size = tuple(output.shape[2:] if output.ndim == 4 else output.shape[1:2] if output.ndim == 3 else ())

    def save(tensor: Tensor) -> None:
        # Nothing is kept, as there is no backward pass: a node that kept its own output would be a circle that is never freed.
        storage = tensor.untyped_storage()
        if storage not in weights:
            for call in running:
                call.saved.add(storage)
            running[-1].activations += 0 if storage in known else storage.nbytes()
            known.add(storage)

    with ExitStack() as stack:
        for module in network.modules():
            stack.callback(module.register_forward_pre_hook(begin).remove)
            stack.callback(module.register_forward_hook(end).remove)
        stack.enter_context(counter)
        stack.enter_context(saved_tensors_hooks(save, lambda nothing: nothing))
        network(x, time, **cond)
    return calls
