import json
from typing import Any

import pytest
from pydantic import BaseModel, PositiveInt

from etsdm.denoisers.denoiser import DenoiserSpec
from etsdm.registry import REGISTRIES, Part, Registry, json_schema

shapes: Registry[Any] = Registry("shapes", "etsdm.registry", "shape")
paints: Registry[Any] = Registry("paints", "etsdm.registry", "paint")


class Shape(Part, family=shapes):
    """A family of parts."""


class Paint(Part, family=paints):
    """A family that only parts of another hold."""


@paints.register("oil")
class Oil(Paint):
    """Slow to dry."""


@shapes.register("circle")
class Circle(Shape):
    """Round."""

    radius: PositiveInt
    paint: Paint = Oil()


@shapes.register("around")
class Around(Shape):
    """A part around a part."""

    base: Shape


shapes.preset("coin", Circle, "A small circle.", radius=1)


class Drawing(BaseModel):
    first: Shape
    others: list[Shape] = []


@pytest.fixture(scope="module")
def schema():
    return json_schema(Drawing, {"shapes": shapes, "paints": paints})


@pytest.fixture(scope="module")
def denoiser_schema():
    return json_schema(DenoiserSpec, REGISTRIES)


def inside(node):
    """Every mapping in a schema."""
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from inside(child)


def target(schema, reference):
    """What a reference points at (RFC 6901)."""
    for step in reference.removeprefix("#/").split("/"):
        schema = schema[step.replace("~1", "/").replace("~0", "~")]
    return schema


def accepts(schema, node, value):
    """Whether a value satisfies a schema, for the few keywords that stand in these."""
    types = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool, "null": type(None)}
    if "$ref" in node and not accepts(schema, target(schema, node["$ref"]), value):
        return False
    if "anyOf" in node and not any(accepts(schema, choice, value) for choice in node["anyOf"]):
        return False
    if "type" in node and not isinstance(value, types[node["type"]]):
        return False
    if ("enum" in node and value not in node["enum"]) or ("const" in node and value != node["const"]):
        return False
    if "exclusiveMinimum" in node and not value > node["exclusiveMinimum"]:
        return False
    if isinstance(value, list):
        return all(accepts(schema, node.get("items", {}), item) for item in value)
    if isinstance(value, dict):
        fields = node.get("properties", {})
        closed = node.get("additionalProperties") is False
        return (
            all(name in value for name in node.get("required", ()))
            and all(name in fields or not closed for name in value)
            and all(accepts(schema, fields.get(name, {}), item) for name, item in value.items())
        )
    return True


def test_every_part_stands_once_under_its_family_and_name(schema):
    assert sorted(schema["$defs"]) == ["paints", "paints/oil", "shapes", "shapes/around", "shapes/circle", "shapes/coin"]


def test_the_union_of_a_family_lists_every_part_and_the_bare_names_that_suffice(schema):
    assert schema["$defs"]["shapes"]["anyOf"] == [
        # The others have a field that must be given.
        {"enum": ["coin"]},
        {"$ref": "#/$defs/shapes~1around"},
        {"$ref": "#/$defs/shapes~1circle"},
        {"$ref": "#/$defs/shapes~1coin"},
    ]


def test_a_part_that_holds_a_part_refers_to_the_union(schema):
    assert schema["$defs"]["shapes/around"]["properties"]["base"]["$ref"] == "#/$defs/shapes"
    assert schema["properties"]["first"]["$ref"] == schema["properties"]["others"]["items"]["$ref"] == "#/$defs/shapes"


def test_a_preset_needs_only_what_it_does_not_set(schema):
    assert schema["$defs"]["shapes/circle"]["required"] == ["type", "radius"]
    assert schema["$defs"]["shapes/coin"]["required"] == ["type"]
    assert schema["$defs"]["shapes/coin"]["properties"]["radius"]["default"] == 1
    assert schema["$defs"]["shapes/coin"]["description"] == "A small circle."


@pytest.mark.parametrize("name", ["schema", "denoiser_schema"])
def test_every_reference_leads_somewhere(name, request):
    schema = request.getfixturevalue(name)
    references = [node["$ref"] for node in inside(schema) if "$ref" in node]
    assert references
    assert all(isinstance(target(schema, reference), dict) for reference in references)


@pytest.mark.parametrize("name", ["schema", "denoiser_schema"])
def test_a_schema_is_json_without_a_mark_of_ours(name, request):
    assert "x-etsdm" not in json.dumps(request.getfixturevalue(name))


CIRCLE = {"type": "circle", "radius": 2}


@pytest.mark.parametrize(
    "value",
    [
        {"first": "coin"},
        {"first": CIRCLE, "others": ["coin", {**CIRCLE, "paint": "oil"}, {"type": "around", "base": {"type": "around", "base": CIRCLE}}]},
        {"first": {"type": "coin"}},
        {"first": {"type": "coin", "radius": 3}},
    ],
)
def test_the_schema_accepts_what_the_model_accepts(schema, value):
    Drawing.model_validate(value)
    assert accepts(schema, schema, value)


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"first": "square"},
        {"first": {"radius": 2}},
        {"first": {"type": "circle"}},
        {"first": {**CIRCLE, "radius": 0}},
        {"first": {**CIRCLE, "colour": "red"}},
        {"first": {"type": "around", "base": {"type": "around", "base": "square"}}},
        {"first": CIRCLE, "others": [{**CIRCLE, "paint": "water"}]},
    ],
)
def test_the_schema_refuses_what_the_model_refuses(schema, value):
    with pytest.raises(ValueError, match="validation error"):
        Drawing.model_validate(value)
    assert not accepts(schema, schema, value)


def test_the_schema_of_a_denoiser_names_each_part_once(denoiser_schema):
    families = ("schedules", "targets", "condition_maps", "time_inputs", "backbones", "first_stages")
    expected = {f"{family}/{name}" for family in families for name in REGISTRIES[family]}
    assert {key for key in denoiser_schema["$defs"] if "/" in key} == expected


def test_the_schema_of_a_denoiser_accepts_the_dump_of_one(denoiser_schema, tiny_spec):
    dump = json.loads(tiny_spec(condition_map="e-tsdm", target="v").model_dump_json())
    assert accepts(denoiser_schema, denoiser_schema, dump)
    assert not accepts(denoiser_schema, denoiser_schema, {**dump, "target": "velocity"})
