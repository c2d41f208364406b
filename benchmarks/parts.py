"""What schedule, condition map and target cost beside the network, per sampling step, in one process.

    python benchmarks/parts.py [--rounds 300] [--json]

A step of a sampler needs alpha and sigma, the condition, and the target's coefficients at one time. Their time is measured in turns
with the forward pass of the smallest network that a recipe comes with, the 8x8 UNet of `digits` on one image and on the 64 of a batch
of `etsdm sample`, and printed as a share of it; the aim is below 1 %.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable

import torch

from etsdm.denoisers.denoiser import Denoiser
from etsdm.experiment import build
from etsdm.registry import condition_maps, schedules, targets

COMBINATIONS = [
    ("linear", "identity", "eps"),
    ("linear", "e-tsdm", "eps"),
    ("linear", "e-tsdm", "v"),
    ("cosine", "inverse", "eps"),
    ("linear-continuous", {"type": "e-tsdm", "t_tilde": 0.1}, "eps"),
    ("edm", "log-snr", "edm"),
]


def microseconds(call: Callable[[], object], repeat: int) -> float:
    start = time.perf_counter()
    for _ in range(repeat):
        call()
    return (time.perf_counter() - start) / repeat * 1e6


def parts_of_a_step(denoiser: Denoiser) -> Callable[[], object]:
    t = 50.0 if denoiser.schedule.is_discrete else 0.0371 * denoiser.schedule.horizon

    def step() -> object:
        alpha, sigma = denoiser.schedule.alpha_sigma(t)
        return denoiser.target.coefficients(alpha, sigma), denoiser.condition(torch.tensor(t, dtype=torch.float64))

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=300, help="turns of each")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    spec = build("digits").arm("baseline").recipe.model
    network = spec.build().backbone.eval()
    image, time_ = torch.randn(64, *spec.build().shape), torch.zeros(64)
    calls: dict[str, Callable[[], object]] = {
        "network, 1 image": lambda: network(image[:1], time_[:1]),
        "network, 64 images": lambda: network(image, time_),
    }
    for schedule, condition_map, target in COMBINATIONS:
        chosen = spec.model_copy(
            update={
                "schedule": schedules.parse(schedule),
                "condition_map": condition_maps.parse(condition_map),
                "target": targets.parse(target),
            }
        )
        name = condition_map if isinstance(condition_map, str) else condition_map["type"]
        calls[f"{schedule} + {name} + {target}"] = parts_of_a_step(Denoiser(chosen, network))
    taken: dict[str, list[float]] = {name: [] for name in calls}
    with torch.no_grad():
        for turn in range(options.rounds + 10):
            for name, call in calls.items():
                spent = microseconds(call, 1 if name.startswith("network") else 5)
                if turn >= 10:
                    taken[name].append(spent)
    medians = {name: statistics.median(values) for name, values in taken.items()}
    if options.json:
        print(json.dumps({"torch": torch.__version__, "machine": platform.machine(), "microseconds": medians}))
        return
    one, many = medians["network, 1 image"], medians["network, 64 images"]
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; medians of {options.rounds} turns")
    for name, value in medians.items():
        share = "" if name.startswith("network") else f"{value / one:8.2%} of one image {value / many:8.2%} of 64"
        print(f"{name:40} {value:10.1f} us {share}")


if __name__ == "__main__":
    main()
