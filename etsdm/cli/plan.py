"""`etsdm plan`: the network calls of a sampler."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from etsdm.cli.options import ConditionMapOption, JsonOption, SamplerOption, ScheduleOption, StepsOption, TargetOption
from etsdm.cli.run import Overrides

if TYPE_CHECKING:
    from rich.table import Table

    from etsdm.denoisers.config import ScheduleConfig
    from etsdm.samplers import Plan, Sampler

__all__ = ["plan"]


def plan(
    subject: Annotated[
        str | None, typer.Argument(metavar="[CHECKPOINT|RECIPE]", help="Folder of a checkpoint or of a run, or a recipe.")
    ] = None,
    overrides: Overrides = None,
    sampler: SamplerOption = None,
    steps: StepsOption = None,
    schedule: ScheduleOption = None,
    target: TargetOption = None,
    condition_map: ConditionMapOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print every network call of a sampler: t, f(t), alpha, sigma, log-SNR and order. Nothing is sampled.

    A checkpoint and a recipe have a schedule and a target; without them give --schedule.
    """
    from etsdm.cli.options import option_errors, parse_part, refuse
    from etsdm.cli.sample import choose_sampler
    from etsdm.denoisers.config import ScheduleConfig
    from etsdm.errors import RecipeError

    default: Sampler | None = None
    if subject is not None:
        refuse({"--schedule": schedule, "--target": target}, f"{subject} has its own")
        denoiser, default = _of_subject(subject, overrides or [])
    elif schedule is not None:
        denoiser = ScheduleConfig(parse_part("schedules", "--schedule", schedule), parse_part("targets", "--target", target or "eps"))
    else:
        raise RecipeError("nothing to plan for; give a checkpoint, a recipe, or --schedule")
    if condition_map is not None:
        chosen_map = parse_part("condition_maps", "--condition-map", condition_map)
        for problem in chosen_map.check(denoiser.schedule):
            raise RecipeError(f"--condition-map.{problem.field}: {problem.message}")
        denoiser = denoiser._replace(condition_map=chosen_map)
    chosen = choose_sampler(sampler, steps, default)
    with option_errors("--sampler", {"steps": "--steps"}):
        planned = chosen.plan(denoiser)
    if as_json:
        typer.echo(json.dumps({"sampler": chosen.model_dump(mode="json"), **planned.record()}, indent=2, allow_nan=False))
        return
    from etsdm.cli.display import console

    console.print(_table(planned, chosen))


def _of_subject(subject: str, overrides: list[str]) -> tuple[ScheduleConfig, Sampler | None]:
    """The parts of a checkpoint or recipe, and the recipe's sampler, None for a checkpoint without a run."""
    from etsdm.checkpoints import checkpoint_folder, read_checkpoint
    from etsdm.cli.options import refuse
    from etsdm.denoisers.config import ScheduleConfig
    from etsdm.experiment import build
    from etsdm.runs.origin import recipe_of_checkpoint

    if Path(subject).is_dir():
        refuse({text: text for text in overrides}, "a checkpoint has no fields to change")
        spec, recipe = read_checkpoint(checkpoint_folder(subject)).denoiser.spec, recipe_of_checkpoint(subject)
    else:
        recipe = build(subject, *overrides).recipe
        spec = recipe.model
    parts = ScheduleConfig(spec.schedule, spec.target, spec.condition_map, spec.time_input, spec.bounded)
    return parts, None if recipe is None else recipe.sampling_of().sampler


def _table(plan: Plan, sampler: Sampler) -> Table:
    from rich.table import Table

    end = "the clean image" if plan.end is None else f"t = {plan.end:g}"
    left = f", with noise of standard deviation {plan.noise_left:.3g}" if plan.noise_left else ""
    table = Table(title=str(sampler.type_name), caption=f"{plan.nfe} network calls in {plan.steps} steps, to {end}{left}")
    for heading in ("call", "step", "t", "f(t)", "alpha", "sigma", "log-SNR", "order"):
        table.add_column(heading, justify="right")
    for call in plan.calls:
        numbers = (f"{value:.6g}" for value in (call.t, call.f, call.alpha, call.sigma, call.log_snr))
        table.add_row(str(call.number), str(call.step), *numbers, str(call.order))
    return table
