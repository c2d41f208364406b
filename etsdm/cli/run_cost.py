"""Cost of `etsdm run` as tables, with the assumptions of their figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from rich.table import Table

from etsdm.cli.display import scaled, stage_title
from etsdm.runs.cost import FLOPS_PER_SECOND, Cost, Work
from etsdm.runs.step_time import StepTime

__all__ = ["cost_notes", "cost_table", "work_table"]

RATE = f"{scaled(FLOPS_PER_SECOND)}FLOP/s"
NOTES = (
    f"{RATE}: about a third of an A100's peak in bfloat16, 312 TFLOP/s. Training and sampling are in float32, where that peak is "
    "19.5 TFLOP/s, 156 for convolutions in TF32, and take longer there.",
    "FLOPs: matrix products, convolutions, attention; a multiply-add is two. Metrics are not counted.",
    "Memory in float32. Training state: weights, gradients, Adam, moving average. Activations: what is kept of a batch for the backward "
    "pass, attention by a fused kernel; that pass needs some memory besides.",
)


def cost_table(costs: Mapping[str, Cost]) -> Table:
    """Cost of a run of each arm from its beginning; one column where all arms cost the same."""
    columns = costs if len(set(map(repr, costs.values()))) > 1 else {"a run": next(iter(costs.values()))}
    table = Table(
        title=f"a run from its beginning, times at {RATE}",
        title_justify="left",
    )
    table.add_column("")
    for name in columns:
        table.add_column(name, justify="right")
    rows: dict[str, Callable[[Cost], str]] = {
        "parameters": lambda cost: f"{cost.parameters:,}",
        "parameters of the first stage": lambda cost: f"{cost.first_stage_parameters:,}" if cost.first_stage_parameters else "",
        "FLOPs of an image, forward": lambda cost: scaled(cost.flops),
        "training": lambda cost: f"{cost.training_images:,} images, {_flops_and_time(cost.training_flops)}",
        **{stage_title("sample", name): partial(_sampling, name=name) for cost in costs.values() for name in cost.samplings},
        "memory: training state": lambda cost: f"{scaled(cost.training_state)}B",
        "memory: activations": lambda cost: (
            f"{scaled(cost.activations)}B, with{'' if cost.gradient_checkpointing else 'out'} gradient checkpointing"
        ),
        "disk: a checkpoint": lambda cost: f"{scaled(cost.checkpoint)}B",
    }
    for title, text in rows.items():
        cells = [text(cost) for cost in columns.values()]
        if any(cells):
            table.add_row(title, *cells)
    return table


def _sampling(cost: Cost, name: str) -> str:
    if name not in cost.samplings:
        return ""
    one = cost.samplings[name]
    return f"{one.images:,} images of {one.nfe} calls, {_flops_and_time(one.flops)}"


def _flops_and_time(flops: float) -> str:
    return f"{scaled(flops)}FLOP, {_time(flops / FLOPS_PER_SECOND)}"


def work_table(every: Work, left: Work, seconds: float | None, seconds_left: float | None, jobs: int) -> Table:
    """All of the work beside what is left of it.

    Args:
        every, left: the work.
        seconds, seconds_left: estimates of their times on this machine, None for none.
        jobs: runs side by side.
    """
    fresh = left == every
    table = Table(title=f"cost of {'' if fresh else 'what is left: '}{_counted(left)}", title_justify="left")
    table.add_column("")
    side_by_side = f", {jobs} runs side by side" if jobs > 1 else ""
    columns = [("all", every, seconds)] if fresh else [("left", left, seconds_left), ("from the beginning", every, seconds)]
    for heading, _, _ in columns:
        table.add_column(heading, justify="right")
    rows: dict[str, Callable[[Work, float | None], str]] = {
        "images of training": lambda one, _: f"{one.training_images:,}",
        "images of sampling": lambda one, _: f"{one.sampled_images:,}",
        "FLOPs": lambda one, _: scaled(one.flops),
        f"time at {RATE}": lambda one, _: _time(one.flops / FLOPS_PER_SECOND),
        f"time here{side_by_side}": lambda _, seconds: "unknown" if seconds is None else _time(seconds),
    }
    for title, text in rows.items():
        table.add_row(title, *(text(one, seconds) for _, one, seconds in columns))
    return table


def _counted(one: Work) -> str:
    return " and ".join(f"{n} {noun}{'' if n == 1 else 's'}" for n, noun in ((one.trainings, "training"), (one.samplings, "sampling")))


def cost_notes(steps: Mapping[str, StepTime]) -> list[str]:
    """Assumptions of the figures. Args: steps: measured times by arm."""
    texts: dict[str, list[str]] = {}
    for arm, step in steps.items():
        texts.setdefault(_measured(step), []).append(arm)
    measured = list(texts) if len(texts) == 1 else [f"{', '.join(arms)}: {text}" for text, arms in texts.items()]
    return [*measured, *NOTES]


def _measured(step: StepTime) -> str:
    if step.seconds is None or step.flops_per_second is None:
        return f"Time here: no training step was measured; {step.reason}."
    where = f"{step.device}, {step.threads} thread{'' if step.threads == 1 else 's'}, float32"
    rate = f"{scaled(step.flops_per_second)}FLOP/s ({where})"
    return f"Time here: at the rate of a training step of {step.images} images, which took {_time(step.seconds)}, {rate}."


def _time(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} seconds" if seconds >= 1 or not seconds else f"{1000 * seconds:.3g} ms"
