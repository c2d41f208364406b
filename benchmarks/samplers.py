"""What a step of a sampler costs beside the network, in turns with diffusers' schedulers, in one process.

    python benchmarks/samplers.py [--rounds 30] [--json]

Both sample 16 images of 3x32x32 with a network that returns its input, which is as cheap as a network can be. Ours goes through
`Sampler.trajectory` and `Denoiser.predict`, condition map and target's coefficients included; theirs is the loop of their
documentation, `scale_model_input`, the network and `step`. The time per network call is that of one processor, on one thread, so that
other work on the machine does not count; the time of laying out the steps (`set_timesteps`) is shared among the calls. The last line is
the least that a step can take: two operations, x = a x + b F. The aim is a third of diffusers' time or less.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable

import diffusers
import torch
from torch import Tensor, nn

from etsdm.denoisers.denoiser import Denoiser, DenoiserSpec
from etsdm.registry import samplers

SHAPE = (16, 3, 32, 32)
STEPS = 50
BACKBONE = {
    "type": "adm-unet",
    "image_size": 32,
    "in_channels": 3,
    "out_channels": 3,
    "model_channels": 32,
    "num_res_blocks": 1,
    "attention_resolutions": [],
}
# Name, our sampler, diffusers' scheduler with its settings.
PAIRS: list[tuple[str, dict[str, object], str, dict[str, object]]] = [
    ("ddim", {"type": "ddim"}, "DDIMScheduler", {"clip_sample": False}),
    ("ddim, clipped", {"type": "ddim", "clip_x0": True}, "DDIMScheduler", {"clip_sample": True}),
    ("ddpm", {"type": "ddpm"}, "DDPMScheduler", {"clip_sample": False}),
    ("dpm-solver++-2m", {"type": "dpm-solver++-2m"}, "DPMSolverMultistepScheduler", {"final_sigmas_type": "zero"}),
    ("euler", {"type": "euler"}, "EulerDiscreteScheduler", {}),
    ("euler-ancestral", {"type": "euler-ancestral"}, "EulerAncestralDiscreteScheduler", {}),
    ("heun", {"type": "heun"}, "HeunDiscreteScheduler", {}),
    ("unipc", {"type": "unipc"}, "UniPCMultistepScheduler", {}),
]


class Free(nn.Module):
    """A network that gives its input back."""

    def __init__(self) -> None:
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return x


class Fixed:
    """Noise that is drawn already, so that drawing it is in nobody's time."""

    def __init__(self, noise: Tensor) -> None:
        self._noise = noise

    def draw(self, shape: object) -> Tensor:
        return self._noise


Loop = Callable[[], int]


def ours(denoiser: Denoiser, settings: dict[str, object], x: Tensor) -> Loop:
    fields = {"clip_x0": False, **settings}
    sampler = samplers.parse({**fields, "steps": STEPS})
    noise = Fixed(torch.randn(SHAPE))

    def loop() -> int:
        calls = 0
        for step in sampler.trajectory(denoiser, x, noise):
            calls = step.nfe
        return calls

    return loop


def theirs(name: str, settings: dict[str, object], x: Tensor) -> Loop:
    network = Free()
    # Their random schedulers draw noise in `step`; ours is handed over, so theirs is replaced for the measurement as well.
    noise = torch.randn(SHAPE)

    @torch.no_grad()
    def loop() -> int:
        scheduler = getattr(diffusers, name)(**settings)
        scheduler.set_timesteps(STEPS)
        y, calls = x * scheduler.init_noise_sigma, 0
        for t in scheduler.timesteps:
            output = network(scheduler.scale_model_input(y, t), t)
            y = scheduler.step(output, t, y).prev_sample
            calls += 1
        return calls

    module = __import__(f"diffusers.schedulers.{getattr(diffusers, name).__module__.split('.')[-1]}", fromlist=["x"])
    if hasattr(module, "randn_tensor"):
        module.randn_tensor = lambda *_, **__: noise
    return loop


def two_operations(x: Tensor) -> Loop:
    @torch.no_grad()
    def loop() -> int:
        y = x
        for _ in range(STEPS):
            y = 0.99 * y + 0.01 * y
        return STEPS

    return loop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30, help="turns of each")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    x = torch.randn(SHAPE)
    spec = DenoiserSpec.model_validate({"schedule": "linear", "condition_map": "e-tsdm", "backbone": BACKBONE})
    denoiser = Denoiser(spec, Free()).eval()
    known = [pair for pair in PAIRS if pair[0].split(",")[0] in samplers.names()]
    loops = {("etsdm", name): ours(denoiser, mine, x) for name, mine, _, _ in known}
    loops |= {("diffusers", name): theirs(their, settings, x) for name, _, their, settings in known}
    loops["both", "two operations"] = two_operations(x)
    taken: dict[tuple[str, str], list[float]] = {key: [] for key in loops}
    for turn in range(options.rounds + 2):
        for key, loop in loops.items():
            start = time.process_time()
            calls = loop()
            if turn >= 2:
                taken[key].append((time.process_time() - start) / calls * 1e3)
    medians = {key: statistics.median(values) for key, values in taken.items()}
    if options.json:
        figures = {f"{whose}: {name}": value for (whose, name), value in medians.items()}
        print(json.dumps({"torch": torch.__version__, "diffusers": diffusers.__version__, "milliseconds": figures}))
        return
    print(f"torch {torch.__version__}, diffusers {diffusers.__version__}, {platform.machine()}, {torch.get_num_threads()} thread")
    print(f"{'ms per network call':20} {'etsdm':>8} {'diffusers':>10} {'ratio':>7} {'quartiles':>15}")
    for name, *_ in known:
        ratios = sorted(a / b for a, b in zip(taken["etsdm", name], taken["diffusers", name], strict=True))
        low, high = ratios[len(ratios) // 4], ratios[-len(ratios) // 4]
        mine, their = medians["etsdm", name], medians["diffusers", name]
        print(f"{name:20} {mine:8.3f} {their:10.3f} {statistics.median(ratios):7.2f} {low:7.2f} to {high:.2f}")
    print(f"{'two operations':20} {medians['both', 'two operations']:8.3f}")


if __name__ == "__main__":
    main()
