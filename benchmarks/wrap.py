"""What `etsdm.wrap` costs per call, in turns with the network called by hand, in one process.

    python benchmarks/wrap.py [--rounds 100] [--batch 16] [--json]

The network is a UNet2DModel of 16 and 32 channels on 8x8 images, the smallest that diffusers' tests and our examples train. One call is
so much longer than what the wrapper adds that the ratio of the two is mostly the noise of the machine; so the calls of the wrapper around a
function that returns its input are timed as well, and their share of the UNet's forward pass is printed. A sampler calls a denoiser at
points whose coefficients are made once for a trajectory, and the aim is below 1 % there; at a tensor of times, as in training, alpha, sigma
and the target's coefficients of each image are computed in the call.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics

import torch
from turns import in_turns, ratio

from etsdm.denoisers.denoiser import Denoiser
from etsdm.denoisers.time_point import TimePoint
from etsdm.interop import wrap

CALLS = 100  # of the wrapper in one turn, as one is too short for the clock
MAPS = {"identity": None, "e-tsdm": {"type": "e-tsdm", "t_tilde": 100, "n": 5}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=100, help="turns of each")
    parser.add_argument("--batch", type=int, default=16, help="images")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = [measure(name, times, options) for name in MAPS for times in ("point", "tensor")]
    if options.json:
        machine = {"torch": torch.__version__, "machine": platform.machine(), "threads": options.threads, "batch": options.batch}
        print(json.dumps({**machine, "rows": rows}))
        return
    print(f"torch {torch.__version__}, {options.threads} threads, {options.device}, batch {options.batch}; {options.rounds} turns")
    for row in rows:
        share = f"forward {row['forward_us']:9.1f} us   wrapper {row['wrapper_us']:6.1f} us, {row['share']:6.2%} of it"
        print(f"{row['condition_map']:9} {row['time']:7} {share}   wrapped / by hand {row['ratio']:.4f}, fastest {row['fastest']:.4f}")


@torch.no_grad()
def measure(name: str, times: str, options: argparse.Namespace) -> dict[str, object]:
    """Figures of one condition map, at a point of a sampler's path or at a tensor of times."""
    network = unet(options)
    parts = {"schedule": "linear", "target": "eps", "condition_map": MAPS[name]}
    denoiser, empty = wrap(network, **parts), wrap(lambda x, t: x, **parts, shape=(1, 8, 8))
    x = torch.randn(options.batch, 1, 8, 8, device=options.device)
    t = torch.full((options.batch,), 40.0, device=options.device)

    def at(model: Denoiser) -> torch.Tensor | TimePoint:
        return TimePoint.at(model, 40.0) if times == "point" else t

    inside, around = at(denoiser), at(empty)
    calls = {
        "by hand": lambda: network(x, t).sample,
        "wrapped": lambda: denoiser.output(x, inside),
        "wrapper": lambda: [empty.output(x, around) for _ in range(CALLS)],
    }
    taken = in_turns(calls, options)
    found = ratio(taken["wrapped"], taken["by hand"])
    forward, wrapper = statistics.median(taken["by hand"]) * 1e6, statistics.median(taken["wrapper"]) / CALLS * 1e6
    figures = {
        "forward_us": forward,
        "wrapper_us": wrapper,
        "share": wrapper / forward,
        "ratio": found["median"],
        "fastest": found["fastest"],
    }
    return {"condition_map": name, "time": times, **figures, "low": found["low"], "high": found["high"]}


def unet(options: argparse.Namespace) -> torch.nn.Module:
    from diffusers import UNet2DModel

    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
    sizes = {"block_out_channels": (16, 32), "layers_per_block": 1, "norm_num_groups": 8}
    return UNet2DModel(sample_size=8, in_channels=1, out_channels=1, **sizes, **blocks).eval().to(options.device)


if __name__ == "__main__":
    main()
