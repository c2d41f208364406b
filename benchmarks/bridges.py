"""What the map of a shared network adds to a call of the network, in one process.

    python benchmarks/bridges.py [--rounds 300] [--batch 16] [--json]

The network is the smallest that our examples train. Shared, it is called with t; by hand, with f(t), which is computed before: the
difference is all that a shared call adds, finding the argument and mapping it. The aim is below 1 % of the forward pass. It is 0.11 to
0.16 ms, 1.2 to 2.0 % of 8 to 10 ms: a map of four tensor operations, six for integers, each of which takes 10 to 20 us after a pass and
1 to 3 us in a hot loop.
"""

from __future__ import annotations

import argparse

import torch
from beside import costs, parsed, printed, unet

from etsdm.interop import share_timesteps

CASES = [(torch.int64, "timesteps"), (torch.float32, "timesteps"), (torch.float32, "unit-interval")]


def main() -> None:
    options = parsed(__doc__.splitlines()[0])
    printed({f"{str(dtype).removeprefix('torch.')}, {unit}": measure(dtype, unit, options) for dtype, unit in CASES}, options)


def measure(dtype: torch.dtype, unit: str, options: argparse.Namespace) -> dict[str, float]:
    """Costs of a map for one kind of timestep argument."""
    network, shared = unet(), unet()
    timestep_map = share_timesteps(shared, unit=unit).timestep_map
    x, t = torch.randn(options.batch, 1, 8, 8), torch.randint(0, 1000, (options.batch,)).to(dtype)
    t = t / 1000 if unit == "unit-interval" else t
    mapped = timestep_map(t)
    return costs(lambda: network(x, mapped), lambda: shared(x, t), options.rounds)


if __name__ == "__main__":
    main()
