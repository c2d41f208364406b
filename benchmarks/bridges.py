"""What the map of a shared network costs per call, in turns with the network called by hand, in one process.

    python benchmarks/bridges.py [--rounds 100] [--batch 16] [--json]

The network is the one that our examples train on 8x8 digits, a UNet2DModel of 16 and 32 channels, as small as a network gets. Shared, it is
called with t; by hand, an equal network is called with f(t), which is computed before. The difference is less than equal networks differ
by, whose ratio is printed beside it. So what a shared call adds, finding the argument and mapping it, is timed alone as well, as a share
of the forward pass; the aim is below 1 %.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
from functools import partial

import torch
from diffusers import UNet2DModel
from turns import in_turns, ratio

from etsdm.interop import share_timesteps
from etsdm.interop.timestep_map import TimestepMap

CALLS = 100  # of the map in one turn, as one is too short for the clock
CASES = [(torch.int64, "timesteps"), (torch.float32, "timesteps"), (torch.float32, "unit-interval")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=100, help="turns of each")
    parser.add_argument("--batch", type=int, default=16, help="images")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = [measure(dtype, unit, options) for dtype, unit in CASES]
    if options.json:
        machine = {"torch": torch.__version__, "machine": platform.machine(), "threads": options.threads, "batch": options.batch}
        print(json.dumps({**machine, "rows": rows}))
        return
    print(f"torch {torch.__version__}, {options.threads} threads, {options.device}, batch {options.batch}; {options.rounds} turns")
    for row in rows:
        times = f"forward {row['forward_us']:9.1f} us   map {row['map_us']:6.1f} us, {row['share']:6.2%} of it"
        print(f"{row['argument']:24} {times}   shared / by hand {row['shared_ratio']:.3f}, by hand / by hand {row['control_ratio']:.3f}")


@torch.no_grad()
def measure(dtype: torch.dtype, unit: str, options: argparse.Namespace) -> dict[str, object]:
    by_hand, control, shared = (unet(options.device) for _ in range(3))
    timestep_map = share_timesteps(shared, unit=unit).timestep_map
    x = torch.randn(options.batch, 1, 8, 8, device=options.device)
    t = torch.randint(0, 1000, (options.batch,), device=options.device).to(dtype)
    t = t / 1000 if unit == "unit-interval" else t
    mapped = timestep_map(t)
    forwards = {"by hand": partial(by_hand, x, mapped), "shared": partial(shared, x, t), "control": partial(control, x, mapped)}
    taken = in_turns({**forwards, "map": partial(map_often, timestep_map, x, t)}, options)
    forward, one_map = statistics.median(taken["by hand"]) * 1e6, statistics.median(taken["map"]) / CALLS * 1e6
    ratios = {f"{name}_ratio": ratio(taken[name], taken["by hand"])["median"] for name in ("shared", "control")}
    argument = f"{str(dtype).removeprefix('torch.')}, {unit}"
    return {"argument": argument, "forward_us": forward, "map_us": one_map, "share": one_map / forward, **ratios}


def map_often(timestep_map: TimestepMap, x: torch.Tensor, t: torch.Tensor) -> None:
    for _ in range(CALLS):
        timestep_map.arguments((x, t), {})


def unet(device: str) -> UNet2DModel:
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
    sizes = {"block_out_channels": (16, 32), "layers_per_block": 1, "norm_num_groups": 8}
    return UNet2DModel(sample_size=8, in_channels=1, out_channels=1, **sizes, **blocks).eval().to(device)


if __name__ == "__main__":
    main()
