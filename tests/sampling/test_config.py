"""The two forms of a recipe's `sampling`: one section, or sections by name beside their common fields."""

import re

import pytest
from pydantic import TypeAdapter, ValidationError

from etsdm.recipe import Recipe, recipe_schema
from etsdm.registry import format_errors
from etsdm.samplers import DDIM, DDPM
from etsdm.sampling.config import Sampling, Samplings

PARSE = TypeAdapter(Samplings)


def test_fields_alone_are_one_section():
    assert PARSE.validate_python({"n": 5, "sampler": "ddpm"}) == Sampling(n=5, sampler=DDPM())
    assert PARSE.validate_python({}) == Sampling()


def test_names_are_sections_with_the_common_fields():
    found = PARSE.validate_python({"n": 5, "sampler": {"type": "ddim", "eta": 0.5}, "fast": {"sampler": {"steps": 2}}, "other": {"n": 6}})
    assert found == {"fast": Sampling(n=5, sampler=DDIM(steps=2, eta=0.5)), "other": Sampling(n=6, sampler=DDIM(eta=0.5))}
    assert list(PARSE.validate_python({"b": {}, "a": {}})) == ["b", "a"]


def test_another_type_of_sampler_keeps_nothing_of_the_common_one():
    found = PARSE.validate_python({"sampler": {"type": "ddim", "steps": 7}, "a": {"sampler": {"type": "ddpm"}}, "b": {"sampler": "ddpm"}})
    assert found == {"a": Sampling(sampler=DDPM()), "b": Sampling(sampler=DDPM())}


@pytest.mark.parametrize("value", [{"n": 5}, {"n": 5, "a": {}, "b": {"seed": 2}}])
def test_a_dump_comes_back_equal(value):
    found = PARSE.validate_python(value)
    assert PARSE.validate_python(PARSE.dump_python(found, mode="json")) == found
    assert PARSE.validate_python(found) == found


@pytest.mark.parametrize(
    ("value", "field", "message"),
    [
        ({"sammpler": {"type": "ddim"}}, "sammpler", r"unknown field; did you mean 'sampler'\?"),  # a part is no section
        ({"sampleer": "ddim"}, "sampleer", "unknown field"),
        ({"a": {"m": 5}}, "a.m", "unknown field; it has: batch_size, guidance, guidance_interval, labels, n, sampler, seed, weights"),
        ({"a": {"n": 0}}, "a.n", "found 0; give a value above 0"),
        ({"n": 0, "a": {}}, "n", "found 0; give a value above 0"),
        ({"a": {}, "b": 3}, "b", "unknown field"),
        ({"A": {}}, "A", "'A' is no name for samples; use lower case"),
        ({"../x": {}}, "../x", "is no name for samples"),
    ],
)
def test_mistakes_name_their_field(value, field, message):
    with pytest.raises(ValidationError) as error:
        PARSE.validate_python(value)
    [problem] = format_errors(error.value)
    assert problem.field == field
    assert re.search(message, problem.message)


def test_the_schema_takes_both_forms():
    schema = recipe_schema()
    sampling = schema["$defs"][schema["properties"]["sampling"]["$ref"].rpartition("/")[2]]
    assert sampling["properties"].keys() == Sampling.model_fields.keys()
    assert sampling["additionalProperties"] == {"$ref": "#/$defs/Sampling"}
    assert Recipe.model_fields["sampling"].default == Sampling()
