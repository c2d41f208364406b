"""`etsdm recipe`: inspect recipes without running them."""

from __future__ import annotations

import fnmatch
import json
from typing import TYPE_CHECKING, Annotated

import typer

from etsdm.cli.options import JsonOption
from etsdm.cli.run import Overrides, RecipeArgument

if TYPE_CHECKING:
    from etsdm.recipe import Recipe

__all__ = ["app"]

app = typer.Typer(help="List, show, check and compare recipes.", no_args_is_help=True)

ArmOption = Annotated[str | None, typer.Option("--arm", help="Arm; by default the recipe as it is written.")]


@app.command("list")
def list_recipes(
    pattern: Annotated[str, typer.Argument(help="Names to list, as 'ffhq*'; all by default.")] = "*", as_json: JsonOption = False
) -> None:
    """List the recipes that are found by name."""
    from etsdm.errors import RecipeError
    from etsdm.recipe import names, read
    from etsdm.registry import suggestion

    known = names()
    chosen = fnmatch.filter(known, pattern)
    if not chosen:
        raise RecipeError(f"no recipe has a name like {pattern!r}; {suggestion(pattern, known, 'recipes')}")
    found = {name: str(read(known[name]).data.get("description", "")) for name in chosen}
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    for name, description in found.items():
        typer.echo(f"{name:24} {description}")


@app.command()
def show(recipe: RecipeArgument, overrides: Overrides = None, arm: ArmOption = None, as_json: JsonOption = False) -> None:
    """Print a recipe with every field."""
    from etsdm.recipe import canonical, to_yaml

    chosen = _arm(recipe, overrides, arm)
    typer.echo(canonical(chosen) if as_json else to_yaml(chosen), nl=as_json)


@app.command()
def validate(recipe: RecipeArgument, overrides: Overrides = None, as_json: JsonOption = False) -> None:
    """Check every arm of a recipe, and print the arms' fingerprints."""
    from etsdm.recipe import fingerprint, load_arms

    fingerprints = {name: fingerprint(arm) for name, arm in load_arms(recipe, *(overrides or ())).recipes.items()}
    if as_json:
        typer.echo(json.dumps({"valid": True, "fingerprints": fingerprints}, indent=2))
        return
    for name, digest in fingerprints.items():
        typer.echo(f"{name}: valid, fingerprint {digest[:16]}")


@app.command()
def diff(
    a: Annotated[str, typer.Argument(help="Recipe, or recipe:arm.")],
    b: Annotated[str, typer.Argument(help="Recipe, or recipe:arm.")],
    as_json: JsonOption = False,
) -> None:
    """Print the fields in which two recipes, or two arms, differ."""
    from etsdm.recipe import MISSING
    from etsdm.recipe import diff as differences
    from etsdm.recipe.compare import value_text

    found = differences(_arm(*_split(a)), _arm(*_split(b)))
    if as_json:
        fields = [{"field": path, "a": None if x is MISSING else x, "b": None if y is MISSING else y} for path, x, y in found]
        typer.echo(json.dumps(fields, indent=2))
        return
    for path, x, y in found:
        typer.echo(f"{path}: {value_text(x)} -> {value_text(y)}")
    if not found:
        typer.echo("no differences")


@app.command()
def schema() -> None:
    """Print the JSON schema of a recipe file, for editors."""
    from etsdm.recipe import recipe_schema

    typer.echo(json.dumps(recipe_schema(), indent=2))


def _split(text: str) -> tuple[str, None, str | None]:
    recipe, _, arm = text.partition(":")
    return recipe, None, arm or None


def _arm(recipe: str, overrides: list[str] | None, arm: str | None) -> Recipe:
    from etsdm.experiment import build

    experiment = build(recipe, *(overrides or ()))
    return experiment.recipe if arm is None else experiment.arm(arm).recipe
