import pytest
from pydantic import BaseModel

from etsdm.errors import RecipeError
from etsdm.recipe.locations import COMMAND_LINE, SourceLocation, recipe_error
from etsdm.recipe.tree import Document, Node


def at(line, value):
    return Node(value, SourceLocation("a.yaml", line))


DOCUMENT = Document(at(1, {"a": at(1, {"b": at(2, [at(2, 1), at(3, {"c": at(3, 4)})])}), "d": Node({"e": Node({"f": at(5, None)})})}))


def test_data_is_plain():
    assert DOCUMENT.data == {"a": {"b": [1, {"c": 4}]}, "d": {"e": {"f": None}}}


def test_every_path_has_a_mark_and_one_made_by_a_dotted_key_that_of_its_value():
    lines = {path: location.line for path, location in DOCUMENT.locations.items()}
    assert lines == {
        (): 1,
        ("a",): 1,
        ("a", "b"): 2,
        ("a", "b", 0): 2,
        ("a", "b", 1): 3,
        ("a", "b", 1, "c"): 3,
        ("d",): 5,
        ("d", "e"): 5,
        ("d", "e", "f"): 5,
    }


@pytest.mark.parametrize(
    ("path", "line"),
    [((), 1), (("a", "b", 1, "c"), 3), (("a", "b", 7), 2), (("a", "x", "b"), 1), (("d", "e"), 5), (("x",), 1), (("a", "b", 0, "c"), 2)],
)
def test_a_place_is_the_mark_of_the_longest_known_prefix(path, line):
    assert DOCUMENT.location_of(path) == SourceLocation("a.yaml", line)


def test_a_document_of_plain_data_has_no_marks():
    document = Document.of({"a": {"b": (1, 2)}})
    assert document.data == {"a": {"b": [1, 2]}}
    assert document.locations == {}
    assert document.location_of(("a", "b")) is None


def test_models_in_plain_data_become_mappings():
    class Point(BaseModel):
        x: int

    assert Document.of({"a": [Point(x=1)]}).data == {"a": [{"x": 1}]}
    assert Document.of(Point(x=2)).data == {"x": 2}


def test_a_key_that_is_not_text_is_refused():
    with pytest.raises(RecipeError) as error:
        Document.of({"a": [{5: 1}]})
    assert str(error.value) == "a.0: the key 5 is not text; write it as '5'"


@pytest.mark.parametrize(
    ("path", "location", "message"),
    [
        (("a", 0, "b"), SourceLocation("a.yaml", 3), "a.0.b: is wrong (a.yaml:3)"),
        (("a",), COMMAND_LINE, "a: is wrong (command line)"),
        (("a",), None, "a: is wrong"),
        ((), SourceLocation("a.yaml", 3), "is wrong (a.yaml:3)"),
    ],
)
def test_a_refusal_says_the_field_and_the_place_as_far_as_they_are_known(path, location, message):
    assert str(recipe_error(path, "is wrong", location)) == message
