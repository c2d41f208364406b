"""Recipes and overrides that are too deep, too long or too many: refused at once, with the limit."""

import re
import time
from functools import partial

import pytest

import etsdm
from etsdm.errors import EtsdmError, RecipeError
from etsdm.recipe.locations import SourceLocation
from etsdm.recipe.yaml import compose

SECONDS = 60.0  # of processor time: a hang, not a speed, is what these find


def refused(make):
    """The message of an error, in less than `SECONDS`."""
    began = time.process_time()
    with pytest.raises(EtsdmError) as caught:
        make()
    assert time.process_time() - began < SECONDS
    assert len(str(caught.value)) < 6000
    return str(caught.value)


def as_file(tmp_path, text):
    file = tmp_path / "a.yaml"
    file.write_text(text)
    return refused(lambda: etsdm.build(file))


BIG = 10_000_000
BOMB = "a: &a [x, x]\n" + "".join(f"b{i}: &b{i} [*{p}, *{p}]\n" for i, p in enumerate(["a", *(f"b{i}" for i in range(40))]))


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("k: [" + "1, " * (BIG // 3) + "]", "250,000 bytes"),
        ("# comment\n" * (BIG // 10), "250,000 bytes"),
        ("k: [" + "1," * 100_000 + "]", "10,000 values"),
        ("".join(f"k{i}: {i}\n" for i in range(15_000)), "10,000 values"),
        (BOMB, "10,000 values"),
        (BOMB + "<<: *b40\n", "10,000 values|merge keys"),
        ("k: " + "[" * 100_000, "50 levels"),
        ("k: " + "{a: " * 50_000, "50 levels"),
        ("- " * 100_000, "50 levels"),
        ("".join(" " * i + "a:\n" for i in range(600)), "50 levels"),
        ("a: &a " + "[" * 40 + "]" * 40 + "\nb: &b " + "[" * 40 + "*a" + "]" * 40, "50 levels"),
        ("a" * 1000 + ": 1", "1,000 characters; give 100"),
        ("? " + "a" * 10_000 + "\n: 1", "10,000 characters; give 100"),
        ("description: " + "a" * 200_000, "200,000 characters; give 4,096"),
        ("seeds: 0x" + "f" * 100_000, "digits"),
        ("seeds: " + "9" * 100_000, "digits"),
        ("data: digits\nseeds: [" + "x, " * 9_000 + "]", "and 8,9.. more"),
        ("data: " + "z" * 4000, "unknown data set 'zzz"),
        ("arms: {" + "".join(f"a{i}: , " for i in range(3000)) + "}", "3,000 arms; give 100"),
        ("extends: [" + "b.yaml, " * 3000 + "]", "no file"),
    ],
)
def test_large_files(tmp_path, text, limit):
    assert re.search(limit, as_file(tmp_path, text))


def nested_mapping(depth):
    value = 1
    for _ in range(depth):
        value = {"a": value}
    return value


def endless():
    value = {}
    value["a"] = value
    return value


@pytest.mark.parametrize(
    ("mapping", "limit"),
    [
        (nested_mapping(5000), "50 levels"),
        (endless(), "50 levels"),
        ({"a": [0] * 1_000_000}, "10,000 values"),
        ({"a" * 1_000_000: 0}, "1,000,000 characters"),
        ({"seeds": [10**5000]}, "digits"),
        ({"arms": {"a": {"a." * 60 + "a": 1}}}, "50 levels"),
    ],
)
def test_large_mappings(mapping, limit):
    assert limit in refused(lambda: etsdm.build(mapping))


@pytest.mark.parametrize("depth", [25, 30, 45])
def test_deep_overrides_cost_no_time(depth):
    message = refused(lambda: etsdm.build("digits", "a." * depth + "a=1"))
    assert "a: unknown field; " in message
    assert "command line" in message


@pytest.mark.parametrize(
    ("overrides", "limit"),
    [
        (["a." * 60 + "a=1"], "61 steps"),
        (["a." * 500_000 + "a=1"], "500,001 steps"),
        (["a" * 100_000 + "=1"], "100,000 characters"),
        (["x" * 100_000], "write key=value"),
        (["training.images=1"] * 2000, "2,000 overrides; give 1,000"),
        (["training.images=" + "[" * 50_000], "50 levels"),
    ],
)
def test_large_overrides(overrides, limit):
    assert limit in refused(lambda: etsdm.build("digits", *overrides))


def test_a_document_at_the_limits_is_read():
    deep = compose("[" * 50 + "]" * 50, partial(SourceLocation, "a.yaml"))
    assert deep.plain is not None
    values = compose("[" + "1," * 9_999 + "]", partial(SourceLocation, "a.yaml"))
    assert len(values.plain) == 9_999


def test_errors_of_a_deep_recipe_are_found_at_once():
    text = "".join(" " * i + "a:\n" for i in range(45))
    with pytest.raises(RecipeError, match="unknown field"):
        etsdm.build("digits", f"model={{a: {'{b: ' * 40}1{'}' * 40}}}")
    assert compose(text, partial(SourceLocation, "a.yaml")).nearest_location.line == 1
