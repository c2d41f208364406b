"""Time of several calls, taken in turns."""

from __future__ import annotations

import statistics
import time
from argparse import Namespace
from collections.abc import Callable

import torch

Call = Callable[[], object]


def in_turns(calls: dict[str, Call], options: Namespace) -> dict[str, list[float]]:
    """Seconds of each call in each round, in alternating order, so that a slow moment of the machine hits all."""
    clock = time.process_time if options.device == "cpu" and options.threads == 1 else time.perf_counter

    def seconds(call: Call) -> float:
        synchronize(options)
        start = clock()
        call()
        synchronize(options)
        return clock() - start

    for call in calls.values():
        for _ in range(2):  # the first is slower, and compiles
            call()
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(options.rounds):
        for name in list(calls)[:: 1 if turn % 2 else -1]:
            taken[name].append(seconds(calls[name]))
    return taken


def synchronize(options: Namespace) -> None:
    if options.device == "cuda":
        torch.cuda.synchronize()


def ratio(ours: list[float], theirs: list[float]) -> dict[str, float]:
    paired = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    low, high = paired[len(paired) // 4], paired[-len(paired) // 4]
    return {"median": statistics.median(paired), "low": low, "high": high, "fastest": min(ours) / min(theirs)}
