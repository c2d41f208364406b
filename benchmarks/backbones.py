"""Benchmark of `adm-unet` against diffusers' `UNet2DModel` with the same layers: forward and backward, alternately in one process.

    python benchmarks/backbones.py [--threads 1] [--size 32] [--batch 16] [--rounds 12] [--compile] [--json]
    python benchmarks/backbones.py --device cuda --network adm-large --size 256 --dtype bfloat16 --channels-last --peak 989
    python benchmarks/backbones.py --attention sdpa,xformers,math

Prints for each the FLOPs and the median time of a forward and backward pass, the FLOP/s and their share of a dense matrix product's,
timed alternately too, and the peak memory; then the ratio of the times with its quartiles. FLOPs are those of matrix products,
convolutions and attention, the backward pass counting as two forward ones; etsdm has fewer, because it upsamples and convolves in one
step. The peak is the weights and the largest memory that torch's allocator held in a pass, gradients included. With one thread on the
CPU the clock is process time, which does not depend on the load of the machine. The aim on a CPU is a ratio of at most 1.00 in eager mode
and 0.95 compiled; on a GPU 45 % of the peak for `adm-large` in bfloat16.

Compiled for a CPU, diffusers' network runs twice, with the compiler's default layout and with etsdm's; the ratio is to the faster one.

--attention measures the kernels of an attention layer instead.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Callable
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # silences the memory profiler

import diffusers
import torch
from attention import measure_kernels, show_kernels
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from turns import Call, in_turns, ratio

from etsdm.backbones import ADMUNet, Execution
from etsdm.registry import backbones

SMALL = {
    "image_size": 32,
    "in_channels": 3,
    "out_channels": 3,
    "model_channels": 64,
    "channel_mult": (1, 2, 2),
    "num_res_blocks": 2,
    "attention_resolutions": (2, 4),
    "num_head_channels": 32,
}
BY_DEFAULT = "diffusers, layout by default"
MATRIX = {"cpu": 2048, "cuda": 8192}


def flops_of(make: Callable[[], nn.Module], x: Tensor) -> int:
    """FLOPs of a forward and backward pass on images of the shape of x, counted on the meta device."""
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        make()(torch.empty(x.shape), torch.empty(len(x)))
    return 3 * counter.get_total_flops()


def peak_bytes(step: Call, network: nn.Module, options: argparse.Namespace) -> int:
    weights = sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())
    if options.device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return weights + torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        step()
    events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    given = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        given += event.nbytes()
        peak = max(peak, given)
    return weights + peak


def peer_of(spec: ADMUNet) -> nn.Module:
    """Network of diffusers with the layers of a specification."""
    has_attention = [spec.has_attention(level) for level in range(len(spec.widths))]
    resample = "Resnet{0}sampleBlock2D" if spec.resblock_updown else "{0}Block2D"
    kinds = [("Attn{0}Block2D" if attending else resample) for attending in has_attention]
    return diffusers.UNet2DModel(
        sample_size=spec.image_size,
        in_channels=spec.in_channels,
        out_channels=spec.out_channels,
        block_out_channels=spec.widths,
        layers_per_block=spec.num_res_blocks,
        down_block_types=tuple(kind.format("Down") for kind in kinds),
        up_block_types=tuple(kind.format("Up") for kind in reversed(kinds)),
        downsample_type="resnet" if spec.resblock_updown else "conv",
        upsample_type="resnet" if spec.resblock_updown else "conv",
        resnet_time_scale_shift="scale_shift" if spec.use_scale_shift_norm else "default",
        attention_head_dim=spec.num_head_channels,
        norm_num_groups=spec.norm_groups,
        attn_norm_num_groups=spec.norm_groups,
        norm_eps=1e-5,
        dropout=spec.dropout,
        time_embedding_dim=spec.time_embed_dim,
        flip_sin_to_cos=True,
        freq_shift=0,
    )


def spec_of(options: argparse.Namespace) -> ADMUNet:
    size = {"image_size": options.size} if options.size else {}
    if options.network == "small":
        return ADMUNet(**{**SMALL, **size})
    spec = backbones.create(options.network, **size)
    if spec.type_name != "adm-unet" or spec.num_classes or not spec.num_head_channels:
        raise SystemExit(
            f"--network: {options.network} has no counterpart in diffusers; give an adm-unet without labels, with num_head_channels"
        )
    return spec


def measure_networks(options: argparse.Namespace) -> dict[str, Any]:
    spec = spec_of(options)
    x = torch.randn(options.batch, spec.in_channels, spec.image_size, spec.image_size, device=options.device)
    makers: dict[str, Callable[[], nn.Module]] = {"etsdm": spec.build, "diffusers": lambda: peer_of(spec)}
    by_default = options.compile and options.device == "cpu"
    if by_default:
        makers[BY_DEFAULT] = makers["diffusers"]
    flops = {name: flops_of(make, x) for name, make in makers.items()}
    with torch.device(options.device):
        built = {name: make().train() for name, make in makers.items()}
    execution = Execution(channels_last=options.channels_last, compile=options.compile)
    for name, network in built.items():
        if name == BY_DEFAULT:
            execution.model_copy(update={"compile": False}).prepare(network).compile()
        else:
            execution.prepare(network)
    steps = {name: training_step(network, x, options) for name, network in built.items()}

    side = MATRIX[options.device]
    a, b = torch.randn(2, side, side, device=options.device, dtype=getattr(torch, options.dtype))
    taken = in_turns({**steps, "matrix": lambda: a @ b}, options)
    medians = {name: statistics.median(seconds) for name, seconds in taken.items()}
    peer = BY_DEFAULT if by_default and medians[BY_DEFAULT] < medians["diffusers"] else "diffusers"
    each = {
        name: {
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "flops": flops[name],
            "seconds": medians[name],
            "peak_bytes": peak_bytes(steps[name], network, options),
        }
        for name, network in built.items()
    }
    return {
        "network": options.network,
        "size": spec.image_size,
        "each": each,
        "peer": peer,
        "ratio": ratio(taken["etsdm"], taken[peer]),
        "matrix_flops_per_s": 2 * side**3 / medians["matrix"],
    }


def training_step(network: nn.Module, x: Tensor, options: argparse.Namespace) -> Call:
    times = torch.rand(len(x), device=x.device) * 999

    def step() -> None:
        with torch.autocast(options.device, dtype=torch.bfloat16, enabled=options.dtype == "bfloat16"):
            out = network(x, times)
        out = out if isinstance(out, Tensor) else out.sample
        out.float().square().mean().backward()
        network.zero_grad(set_to_none=True)

    return step


def show_networks(found: dict[str, Any], options: argparse.Namespace) -> None:
    console, facts = Console(), found["ratio"]
    table = Table(title=f"{found['network']} at {found['size']}x{found['size']}, batch {options.batch}", title_justify="left")
    for heading in ("", "parameters", "GFLOP", "ms", "GFLOP/s", "share", "peak MiB"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, row in found["each"].items():
        speed = row["flops"] / row["seconds"]
        share = f"{speed / found['matrix_flops_per_s']:.0%}"
        times = f"{row['flops'] / 1e9:.1f}", f"{row['seconds'] * 1e3:.1f}", f"{speed / 1e9:.1f}", share
        table.add_row(name, f"{row['parameters']:,}", *times, f"{row['peak_bytes'] / 2**20:.0f}")
    console.print(table)
    console.print(f"time of etsdm over {found['peer']}: {facts['median']:.3f}, quartiles {facts['low']:.3f} to {facts['high']:.3f}", end="")
    console.print(f"; the fastest passes {facts['fastest']:.3f}")
    console.print(f"share: of a dense matrix product's {found['matrix_flops_per_s'] / 1e9:.1f} GFLOP/s")
    if options.peak:
        row = found["each"]["etsdm"]
        speed = row["flops"] / row["seconds"] / 1e12
        console.print(f"etsdm: {speed:.1f} TFLOP/s, {speed / options.peak:.1%} of the stated peak of {options.peak:g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="small", help="small, of 6.8M parameters, or a preset of adm-unet")
    parser.add_argument("--size", type=int, help="height and width of the images; the network's own by default")
    parser.add_argument("--batch", type=int, default=16, help="images in a pass")
    parser.add_argument("--rounds", type=int, default=12, help="turns of each")
    parser.add_argument("--threads", type=int, default=1, help="threads on the CPU")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"], help="bfloat16 is by autocast")
    parser.add_argument("--channels-last", action="store_true", help="both networks with channels innermost")
    parser.add_argument("--compile", action="store_true", help="both networks compiled, which takes minutes")
    parser.add_argument("--peak", type=float, help="TFLOP/s that the device is said to have at best")
    parser.add_argument("--attention", metavar="KERNELS", help="measure kernels instead, for example sdpa,xformers,math")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    measure, show = (measure_kernels, show_kernels) if options.attention else (measure_networks, show_networks)
    found = measure(options)
    machine = torch.cuda.get_device_name() if options.device == "cuda" else f"CPU, threads: {options.threads}"
    versions = {"torch": torch.__version__, "diffusers": diffusers.__version__, "machine": machine}
    if options.json:
        print(json.dumps({**versions, "options": vars(options), **found}))
        return
    show(found, options)
    mode = ", compiled" if options.compile else ""
    print(f"torch {torch.__version__}, diffusers {diffusers.__version__}, {machine}, {options.dtype}{mode}, {options.rounds} turns of each")


if __name__ == "__main__":
    main()
