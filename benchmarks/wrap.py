"""What `etsdm.wrap` costs per call beside the network, in one process.

    python benchmarks/wrap.py [--rounds 300] [--batch 16] [--json]

The network is a UNet2DModel of 16 and 32 channels on 8x8 images, the smallest that diffusers' tests and our examples train. Two forward
passes differ by more than what the wrapper adds, so a call is timed as a whole and, inside it, from where the network is entered to where
it is left; the difference is what the wrapper costs, with cold caches, as in use. A sampler calls a denoiser at points whose coefficients
are made once for a trajectory, and the aim is below 1 % there; at a tensor of times, as in training, the call checks and maps each time.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time

import torch

from etsdm.denoisers.time_point import TimePoint
from etsdm.interop import wrap

MAPS = {"identity": None, "e-tsdm": {"type": "e-tsdm", "t_tilde": 100, "n": 5}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=300, help="calls of each")
    parser.add_argument("--batch", type=int, default=16, help="images")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=("cpu",), default="cpu")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = [measure(name, times, options) for name in MAPS for times in ("point", "tensor")]
    if options.json:
        machine = {"torch": torch.__version__, "machine": platform.machine(), "threads": options.threads, "batch": options.batch}
        print(json.dumps({**machine, "rows": rows}))
        return
    print(
        f"torch {torch.__version__}, {options.threads} threads, {options.device}, batch {options.batch}; medians of {options.rounds} calls"
    )
    for row in rows:
        share = f"wrapper {row['wrapper_us']:6.1f} us, {row['share']:6.2%} of it"
        print(f"{row['condition_map']:9} {row['time']:7} forward {row['forward_us']:9.1f} us   {share}")


class Timed(torch.nn.Module):
    """A network that notes when it is entered and left."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network
        self.inside = 0.0

    def __call__(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:  # as cheap as the call that it is around
        start = time.perf_counter()
        out = self.network(x, t).sample
        self.inside = time.perf_counter() - start
        return out


@torch.no_grad()
def measure(name: str, times: str, options: argparse.Namespace) -> dict[str, object]:
    """Figures of one condition map, at a point of a sampler's path or at a tensor of times."""
    network = Timed(unet(options))
    denoiser = wrap(network, schedule="linear", target="eps", condition_map=MAPS[name], shape=(1, 8, 8))
    x = torch.randn(options.batch, 1, 8, 8, device=options.device)
    t = torch.full((options.batch,), 40.0, device=options.device)
    at = TimePoint.at(denoiser, 40.0) if times == "point" else t
    forward, wrapper = [], []
    for _ in range(options.rounds + 5):  # the first are slower
        start = time.perf_counter()
        denoiser.output(x, at)
        whole = time.perf_counter() - start
        forward.append(network.inside * 1e6)
        wrapper.append(whole * 1e6 - forward[-1])
    forward_us, wrapper_us = statistics.median(forward[5:]), statistics.median(wrapper[5:])
    return {"condition_map": name, "time": times, "forward_us": forward_us, "wrapper_us": wrapper_us, "share": wrapper_us / forward_us}


def unet(options: argparse.Namespace) -> torch.nn.Module:
    from diffusers import UNet2DModel

    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
    sizes = {"block_out_channels": (16, 32), "layers_per_block": 1, "norm_num_groups": 8}
    return UNet2DModel(sample_size=8, in_channels=1, out_channels=1, **sizes, **blocks).eval().to(options.device)


if __name__ == "__main__":
    main()
