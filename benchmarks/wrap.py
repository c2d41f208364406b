"""What `etsdm.wrap` adds to a call of a network by hand, in one process.

    python benchmarks/wrap.py [--rounds 300] [--batch 16] [--json]

The network is the smallest that our examples train, and the aim is below 1 % of its forward pass. A sampler calls a denoiser at points
whose coefficients are made once for a trajectory; by hand, it gives the network a tensor of the time. At a tensor of times, as in training,
a denoiser refuses times outside the schedule and maps each; by hand, the network is called with t, or with the map written out.

One CPU thread, a pass of 8 to 10 ms: 0.07 ms, 0.7 to 0.8 %, at points, and 0.11 ms, 1.0 to 1.3 %, at tensors of times. What is left
there is the check of the times, 0.03 ms, and the Python of three calls with their checks of shapes, each cold after a pass; a hot loop
takes a sixth.
"""

from __future__ import annotations

import argparse

import torch
from beside import costs, parsed, printed, unet

from etsdm.denoisers.time_point import TimePoint
from etsdm.interop import wrap

MAPS = {"identity": None, "e-tsdm": {"type": "e-tsdm", "t_tilde": 100, "n": 5}}
BY_HAND = {"identity": lambda t: t, "e-tsdm": lambda t: torch.where(t < 100, t // 20 * 20, t)}


def main() -> None:
    options = parsed(__doc__.splitlines()[0])
    printed({f"{name}, {times}": measure(name, times, options) for name in MAPS for times in ("point", "tensor")}, options)


def measure(name: str, times: str, options: argparse.Namespace) -> dict[str, float]:
    """Costs with one condition map, at a point of a sampler's path or at a tensor of times."""
    network = unet()
    denoiser = wrap(network, schedule="linear", target="eps", condition_map=MAPS[name])
    x, t = torch.randn(options.batch, 1, 8, 8), torch.full((options.batch,), 40.0)
    point = TimePoint.at(denoiser, 40.0)
    calls = {
        "point": (lambda: network(x, torch.full((len(x),), point.condition)).sample, lambda: denoiser.output(x, point)),
        "tensor": (lambda: network(x, BY_HAND[name](t)).sample, lambda: denoiser.output(x, t)),
    }
    return costs(*calls[times], options.rounds)


if __name__ == "__main__":
    main()
