"""`etsdm doctor`: versions and devices of this machine."""

from __future__ import annotations

import json

import typer

from etsdm.cli.options import JsonOption

__all__ = ["doctor"]


def doctor(as_json: JsonOption = False) -> None:
    """Print versions, devices and cores."""
    import os

    import torch

    from etsdm.backbones.kernels import xformers_unavailable_reason
    from etsdm.runs.environment import environment

    facts: dict[str, object] = {**environment(), "cores": os.cpu_count(), "torch_threads": torch.get_num_threads()}
    facts["cuda"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] or "none"
    facts["xformers"] = f"not used: {reason}" if (reason := xformers_unavailable_reason()) else "used for attention where it is faster"
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    for key, value in facts.items():
        typer.echo(f"{key:16} {value}")
