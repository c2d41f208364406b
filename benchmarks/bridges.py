"""What the map of a shared network costs per call, in turns with the network called by hand, in one process.

    python benchmarks/bridges.py [--rounds 100] [--batch 16] [--json]

The network is the smallest that diffusers' tests and our examples train on 8x8 digits, a UNet2DModel of 16 and 32 channels. Shared, it is
called with t; by hand, the same network is called with f(t), which is computed before. The difference is the cost of the map and of its
subclass. It is far below what a forward pass varies by, so the parts that a shared call adds, choosing the argument and mapping it, are
timed alone as well, and their share of the forward pass is printed; the aim is below 1 %.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics

import torch
from turns import in_turns, ratio

from etsdm.interop import share_timesteps

CALLS = 100  # of the map in one turn, as one is too short for the clock


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=100, help="turns of each")
    parser.add_argument("--batch", type=int, default=16, help="images")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = [row for dtype in (torch.int64, torch.float32) for row in measure(dtype, options)]
    if options.json:
        machine = {"torch": torch.__version__, "machine": platform.machine(), "threads": options.threads, "batch": options.batch}
        print(json.dumps({**machine, "rows": rows}))
        return
    print(
        f"torch {torch.__version__}, {options.threads} threads, {options.device}, batch {options.batch}; medians of {options.rounds} turns"
    )
    for row in rows:
        times = f"forward {row['forward_us']:9.1f} us   map {row['map_us']:6.1f} us, {row['share']:6.2%} of it"
        print(f"{row['argument']:28} {times}   shared / by hand {row['ratio']:.4f} ({row['low']:.4f} to {row['high']:.4f})")


@torch.no_grad()
def measure(dtype: torch.dtype, options: argparse.Namespace) -> list[dict[str, object]]:
    """Rows of one dtype of timesteps: as they are, and on the unit interval where they are floating."""
    rows: list[dict[str, object]] = []
    for unit in ("timesteps", "unit-interval") if dtype.is_floating_point else ("timesteps",):
        by_hand, shared = unet(options), unet(options)
        timestep_map = share_timesteps(shared, unit=unit).timestep_map
        x = torch.randn(options.batch, 1, 8, 8, device=options.device)
        t = torch.randint(0, 1000, (options.batch,), device=options.device).to(dtype)
        t = t / 1000 if unit == "unit-interval" else t
        mapped, kwargs = timestep_map(t), {}
        calls = {
            "by hand": lambda by_hand=by_hand, x=x, mapped=mapped: by_hand(x, mapped),
            "shared": lambda shared=shared, x=x, t=t: shared(x, t),
            "map": lambda timestep_map=timestep_map, x=x, t=t, kwargs=kwargs: [
                timestep_map.arguments((x, t), kwargs) for _ in range(CALLS)
            ],
        }
        taken = in_turns(calls, options)
        found = ratio(taken["shared"], taken["by hand"])
        forward, one_map = statistics.median(taken["by hand"]) * 1e6, statistics.median(taken["map"]) / CALLS * 1e6
        figures = {"forward_us": forward, "map_us": one_map, "share": one_map / forward, "ratio": found["median"]}
        rows.append({"argument": f"{str(dtype).removeprefix('torch.')}, {unit}", **figures, "low": found["low"], "high": found["high"]})
    return rows


def unet(options: argparse.Namespace) -> torch.nn.Module:
    from diffusers import UNet2DModel

    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
    sizes = {"block_out_channels": (16, 32), "layers_per_block": 1, "norm_num_groups": 8}
    return UNet2DModel(sample_size=8, in_channels=1, out_channels=1, **sizes, **blocks).eval().to(options.device)


if __name__ == "__main__":
    main()
