from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etsdm.errors import RecipeError
from etsdm.recipe.locations import SourceLocation
from etsdm.recipe.yaml import compose


def read(text):
    node = compose(text, partial(SourceLocation, "a.yaml"))
    return node and node.plain


def refused(text):
    with pytest.raises(RecipeError) as error:
        read(text)
    return str(error.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # YAML 1.2.2, section 10.3.2, "Tag Resolution".
        ("1e-4", 1e-4),
        ("1E+3", 1000.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("-.inf", float("-inf")),
        ("12", 12),
        ("+12", 12),
        ("012", 12),
        ("0o17", 15),
        ("0x1F", 31),
        ("TRUE", True),
        ("false", False),
        ("~", None),
        ("Null", None),
        ("", None),
        # Where YAML 1.1 would see a truth value, an integer, a sexagesimal number, a date or a default key.
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("no", "no"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2020-01-01", "2020-01-01"),
        ("=", "="),
        ("'12'", "12"),
        ("!!str 12", "12"),
        ("!!float 3", 3.0),
    ],
)
def test_scalars_resolve_by_the_core_schema(text, value):
    found = read(f"a: {text}")["a"]
    assert found == value
    assert type(found) is type(value) or isinstance(found, str)


@given(st.floats(allow_nan=False))
def test_every_float_is_read_as_python_writes_it(number):
    found = read(f"a: {str(number).replace('inf', '.inf')}")["a"]
    assert found == number
    assert type(found) is float


@given(st.integers())
def test_every_integer_is_read_as_python_writes_it(number):
    assert read(f"a: {number}") == {"a": number}


def test_entries_are_marked_with_the_line_of_their_key():
    root = compose("# first\na:\n  b:\n    - 1\n    -\n      c: 2\n", partial(SourceLocation, "a.yaml"))
    b = root.value["a"].value["b"]
    assert root.location == SourceLocation("a.yaml", 2)
    assert b.location == SourceLocation("a.yaml", 3)
    assert [entry.location for entry in b.value] == [SourceLocation("a.yaml", 4), SourceLocation("a.yaml", 6)]
    assert b.value[1].value["c"].location == SourceLocation("a.yaml", 6)


def test_an_alias_is_marked_where_it_stands_and_its_entries_at_the_anchor():
    root = compose("a: &x\n  c: 1\nb: *x\n", partial(SourceLocation, "a.yaml"))
    assert root.plain == {"a": {"c": 1}, "b": {"c": 1}}
    assert root.value["b"].location == SourceLocation("a.yaml", 3)
    assert root.value["b"].value["c"].location == SourceLocation("a.yaml", 2)


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing but a comment\n"])
def test_text_without_a_value_is_none(text):
    assert compose(text, partial(SourceLocation, "a.yaml")) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a:\n\tb: 1\n", "a tab in the indentation; use spaces (a.yaml:2)"),
        ("a:\n  b: 1\n\tc: 2\n", "a tab in the indentation; use spaces (a.yaml:3)"),
        ("a:\n  - 1\n\t- 2\n", "a tab in the indentation; use spaces (a.yaml:3)"),
        ("a: b: c\n", "mapping values are not allowed here, column 5 (a.yaml:1)"),
        ("a: [1, 2\n", "expected ',' or ']', but got '<stream end>', column 1 (a.yaml:2)"),
        ("a: @x\n", "found character '@' that cannot start any token, column 4 (a.yaml:1)"),
        ("a: *x\n", "found undefined alias 'x', column 4 (a.yaml:1)"),
        ("a: 1\n---\nb: 2\n", "expected a single document in the stream, but found another document, column 1 (a.yaml:2)"),
        ("a: 1\nb: \x00\n", "the character U+0000 is not allowed; remove it (a.yaml:2)"),
        ("a: " + 3000 * "[", "values are nested in more than 50 levels; write them flatter, column 54 (a.yaml:1)"),
    ],
)
def test_wrong_syntax_is_refused_with_its_place(text, message):
    assert refused(text) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a:\n  b: 1\n  c: 2\n  b: 3\n", "a.b: given twice, on lines 2 and 4; keep one (a.yaml:4)"),
        ("a:\n  5: 1\n", "a: the key 5 is not text; write it in quotes (a.yaml:2)"),
        ("true: 1\n", "the key true is not text; write it in quotes (a.yaml:1)"),
        ("~: 1\n", "the key ~ is not text; write it in quotes (a.yaml:1)"),
        ("[a, b]: 1\n", "a key is a list or a mapping; give a name (a.yaml:1)"),
        ("a:\n  <<: {b: 1}\n", "a: merge keys (<<) are not read; use extends, or write the fields out (a.yaml:2)"),
    ],
)
def test_keys_that_are_no_names_are_refused(text, message):
    assert refused(text) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a: !!python/object/apply:os.system [ls]\n",
            "a: the tag !!python/object/apply:os.system is not read here; leave it out (a.yaml:1)",
        ),
        ("a: [!mine x]\n", "a.0: the tag !mine is not read here; leave it out (a.yaml:1)"),
        ("a: !!timestamp 2020-01-01\n", "a: the tag !!timestamp is not read here; leave it out (a.yaml:1)"),
        ("a: !!set {x}\n", "a: the tag !!set is not read here; leave it out (a.yaml:1)"),
        ("a: !!int x\n", "a: 'x' does not fit the tag !!int; leave the tag out (a.yaml:1)"),
        ("a: !!str {b: 1}\n", "a: the tag !!str is not read here; leave it out (a.yaml:1)"),
        ("a: " + 5000 * "9", "a: an integer of 5,000 digits; give a shorter number (a.yaml:1)"),
    ],
)
def test_values_outside_the_core_schema_are_refused(text, message):
    assert refused(text) == message


def test_an_alias_inside_its_own_anchor_is_refused():
    assert refused("a: &x\n  b: *x\n") == "a.b: an alias stands inside its own anchor; write the value out (a.yaml:2)"


def test_aliases_that_multiply_are_refused():
    lines = ["a0: &a0 [1]"] + [f"a{i}: &a{i} [{', '.join(10 * [f'*a{i - 1}'])}]" for i in range(1, 12)]
    assert refused("\n".join(lines)).startswith(
        "there are more than 10,000 values, aliases counted as often as they stand there; write fewer (a.yaml:"
    )
