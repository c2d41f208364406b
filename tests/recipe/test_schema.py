"""The JSON schema of recipe files accepts what the loader accepts."""

from pathlib import Path
from typing import Any

import pytest
import yaml

import etsdm
from etsdm.errors import RecipeError
from etsdm.recipe import read, recipe_schema

RECIPES = sorted(Path(__file__).parents[2].glob("recipes/*.yaml")) + sorted((Path(__file__).parents[1] / "recipes").glob("*.yaml"))
TYPES: dict[str, Any] = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool}
SCHEMA = recipe_schema()


def of_type(value, name):
    if name == "null":
        return value is None
    return isinstance(value, TYPES[name]) and (name == "boolean" or not isinstance(value, bool))


def accepts(node, value):
    """Whether a value satisfies a schema, by the keywords that stand in this one."""
    if "$ref" in node:
        inside = SCHEMA
        for step in node["$ref"].removeprefix("#/").split("/"):
            inside = inside[step.replace("~1", "/").replace("~0", "~")]
        if not accepts(inside, value):
            return False
    if "anyOf" in node and not any(accepts(choice, value) for choice in node["anyOf"]):
        return False
    names = node.get("type", [])
    if names and not any(of_type(value, name) for name in ([names] if isinstance(names, str) else names)):
        return False
    if ("enum" in node and value not in node["enum"]) or ("const" in node and value != node["const"]):
        return False
    if isinstance(value, list):
        return all(accepts(node.get("items", {}), item) for item in value)
    if isinstance(value, dict):
        fields, others = node.get("properties", {}), node.get("additionalProperties", {})
        schemas = {name: fields.get(name, others) for name in value}
        return all(name in value for name in node.get("required", ())) and all(
            schemas[name] is not False and accepts(schemas[name], item) for name, item in value.items()
        )
    return True


ACCEPTED = [
    "sampling: {sampler: {steps: 20}}",
    "sampling: {a: {sampler: {steps: 20}}, b: {sampler: {grid: trailing}}}",
    "sampling: {sampler: {type: heun, steps: 20, grid: {rho: 5}}}",
    "model: {target: {allow_eps_at_zero_snr: true}}",
    "model: {schedule: {timesteps: 500}}",
    "model: {target: v}",
    "training: {optimizer: {weight_decay: 0.1}}",
    "training: {loss: {weighting: {type: min-snr}}}",
    "training: {ema: 0.99}",
    "training: {ema: {decay: 0.99}}",
    "evaluation: {metrics: [lipschitz, {type: loss-per-t, loss: {space: eps}}]}",
    "compute: {jobs: 2}",
]
REFUSED = [
    "sampling: {sampler: {stepz: 20}}",
    "sampling: {sampler: {type: heun, eta: 0.5}}",
    "sampling: {sampler: {type: no-sampler}}",
    "model: {schedule: {type: linear, timestep: 500}}",
    "training: {imags: 5}",
    "evaluation: {metrics: [{images: 5, chunks: 3}]}",
]


@pytest.mark.parametrize("text", ACCEPTED)
def test_what_the_loader_accepts(text):
    document = {"extends": "digits", **yaml.safe_load(text)}
    etsdm.build(document)
    assert accepts(SCHEMA, document)


@pytest.mark.parametrize("text", REFUSED)
def test_what_the_loader_refuses_by_its_fields(text):
    document = {"extends": "digits", **yaml.safe_load(text)}
    with pytest.raises(RecipeError):
        etsdm.build(document)
    assert not accepts(SCHEMA, document)


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_every_recipe_as_written_and_as_it_is_shown(file):
    assert accepts(SCHEMA, read(file).data)
    for recipe in etsdm.build(file).arms.values():
        assert accepts(SCHEMA, recipe.model_dump(mode="json"))


def test_no_field_is_required():
    def required(node):
        if isinstance(node, dict):
            yield from (node["required"] for _ in [0] if isinstance(node.get("required"), list))
        for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            yield from required(child)

    assert list(required(SCHEMA)) == []
    assert SCHEMA["properties"]["model"]["$ref"] == "#/$defs/DenoiserSpec"
