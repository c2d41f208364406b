"""Every field of every part and section has a description, which `etsdm parts` and the JSON schema give."""

import inspect

import pytest

from etsdm.backbones import External
from etsdm.recipe import recipe_schema
from etsdm.recipe.compute import Compute
from etsdm.recipe.models import Recipe
from etsdm.registry import REGISTRIES
from etsdm.registry.docs import field_descriptions

PARTS = {f"{key}: {name}": registry[name] for key, registry in REGISTRIES.items() for name in registry.names()}
SECTIONS = {"recipe": Recipe, "compute": Compute}


@pytest.mark.parametrize("name", [*PARTS, *SECTIONS])
def test_every_field_is_described(name):
    cls = {**PARTS, **SECTIONS}[name]
    if cls is not External:  # which stands in no recipe
        assert cls.model_fields.keys() - field_descriptions(cls).keys() == set()


def test_descriptions_are_those_of_the_docstring():
    class Base:
        """A base.

        Attributes:
            a, b: two
                lines.
            c: of the base.
        """

    class Part(Base):
        """A part.

        Attributes:
            c: its own: with a colon.

        Raises:
            d: nothing.
        """

    assert field_descriptions(Part) == {"a": "two lines.", "b": "two lines.", "c": "its own: with a colon."}
    assert inspect.getdoc(Part)


def test_the_schema_describes_the_fields_of_sections_and_parts():
    schema = recipe_schema()
    training = schema["$defs"]["Training"]["properties"]
    assert training["warmup_images"]["description"].startswith("images over which the learning rate rises")
    missing = [name for name, section in schema["$defs"].items() if any("description" not in entry for entry in _fields(section))]
    assert missing == []


def _fields(section):
    return [entry for name, entry in section.get("properties", {}).items() if name != "type"]
