"""Time that a call takes beside the network inside it, as in use: with the caches that a forward pass leaves.

Time is that of one thread, so that other programs on the machine do not count.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from diffusers import UNet2DModel

__all__ = ["TimedUNet", "costs", "parsed", "printed", "unet"]

WARM_UP = 5  # calls of each, which are slower


class TimedUNet(UNet2DModel):
    """A UNet2DModel that notes the seconds of each forward pass."""

    seconds: list[float] = []  # noqa: RUF012  of all, as a pass is the last one when it is read

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        start = time.thread_time()
        out = super().forward(*args, **kwargs)
        self.seconds.append(time.thread_time() - start)
        return out


def unet() -> TimedUNet:
    """The network of 16 and 32 channels on 8x8 images that our examples train, as small as a network gets."""
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
    sizes = {"block_out_channels": (16, 32), "layers_per_block": 1, "norm_num_groups": 8}
    return TimedUNet(sample_size=8, in_channels=1, out_channels=1, **sizes, **blocks).eval()


@torch.no_grad()
def costs(by_hand: Callable[[], object], call: Callable[[], object], rounds: int) -> dict[str, float]:
    """Median microseconds beside the forward pass of a call by hand and of another, taken in turns, and of the pass itself.

    Two passes differ by more than what is measured, so each call is timed as a whole and, inside it, the pass.
    """
    forwards: list[float] = []
    beside: dict[str, list[float]] = {"by_hand_us": [], "call_us": []}
    for turn in range(rounds + WARM_UP):
        turns = list(zip(beside, (by_hand, call), strict=True))
        for name, each in turns[:: 1 if turn % 2 else -1]:
            start = time.thread_time()
            out = each()
            whole = time.thread_time() - start
            del out
            forwards.append(TimedUNet.seconds.pop() * 1e6)
            beside[name].append(whole * 1e6 - forwards[-1])
    found = {name: statistics.median(values[WARM_UP:]) for name, values in beside.items()}
    forward, added = statistics.median(forwards[2 * WARM_UP :]), found["call_us"] - found["by_hand_us"]
    return {"forward_us": forward, **found, "added_us": added, "share": added / forward}


def parsed(description: str) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=300, help="calls of each")
    parser.add_argument("--batch", type=int, default=16, help="images")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    return options


def printed(rows: dict[str, dict[str, float]], options: argparse.Namespace) -> None:
    """Prints the costs of each case."""
    if options.json:
        machine = {"torch": torch.__version__, "machine": platform.machine(), "batch": options.batch}
        print(json.dumps({**machine, "rows": rows}))
        return
    print(f"torch {torch.__version__}, one CPU thread, batch {options.batch}; medians of {options.rounds} calls")
    for case, row in rows.items():
        beside = f"beside it {row['call_us']:6.1f} us, by hand {row['by_hand_us']:6.1f} us"
        print(f"{case:24} forward {row['forward_us']:8.1f} us   {beside}; added {row['added_us']:6.1f} us, {row['share']:6.2%}")
