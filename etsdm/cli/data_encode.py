"""`etsdm data encode`: latents of a recipe's images, on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from etsdm.cli.run import Overrides, RecipeArgument

__all__ = ["encode"]


def encode(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option(help="Folder of the latents; a later call goes on in it.")] = Path("latents"),
    batch_size: Annotated[int, typer.Option(min=1, help="Images that are encoded at a time.")] = 16,
) -> None:
    """Write the latents of a recipe's images, so that trainings do without the first stage.

    A recipe with `data: {type: latents, path: FOLDER}` trains on them.
    """
    from etsdm.cli.display import ProgressDisplay
    from etsdm.cli.waiting import goes_on
    from etsdm.errors import RecipeError
    from etsdm.experiment import build
    from etsdm.runs.encode import encode_recipe
    from etsdm.runs.launch import Event

    experiment = build(recipe, *(overrides or ()))
    made_of = {(arm.data, arm.model.first_stage, arm.training.first_stage_weights, arm.training.flip) for arm in experiment.arms.values()}
    if len(made_of) > 1:
        raise RecipeError("arms: they differ in data, first stage or flip; give a recipe where these are the same, or one of its arms")
    with goes_on(), ProgressDisplay() as display:
        for progress in encode_recipe(next(iter(experiment.arms.values())), out, batch_size=batch_size):
            display.show(Event(experiment.name, progress))
    typer.echo(out)
