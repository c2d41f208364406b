from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, PositiveFloat, PositiveInt, TypeAdapter, ValidationError

from etsdm.registry import Frozen, Part, Registry, field_error, format_errors

shapes: Registry[Any] = Registry("shapes", "etsdm.registry", "shape")


class Shape(Part, family=shapes):
    """A family of parts."""


@shapes.register("circle")
class Circle(Shape):
    """Round."""

    radius: PositiveFloat = 1.0


@shapes.register("around")
class Around(Shape):
    """A part around a part."""

    base: Shape
    margin: PositiveInt = 1


@shapes.register("row")
class Row(Shape):
    """A part with several parts and a part by default."""

    members: tuple[Shape, ...] = ()
    last: Shape = Circle()


class Drawing(BaseModel):
    """A model that knows nothing of registries."""

    shape: Shape
    more: dict[str, Shape] = {}
    frame: Shape | None = None


SHAPES = st.recursive(
    st.floats(0.1, 10).map(lambda radius: Circle(radius=radius)),
    lambda inner: st.builds(Around, base=inner, margin=st.integers(1, 9)) | st.builds(Row, members=st.lists(inner, max_size=3), last=inner),
    max_leaves=5,
)


def problems(model, value):
    with pytest.raises(ValidationError) as error:
        TypeAdapter(model).validate_python(value)
    return {problem.field: problem.message for problem in format_errors(error.value)}


@given(SHAPES)
def test_a_part_comes_back_equal_from_its_dump(shape):
    assert shapes.parse(shape.model_dump()) == shape
    assert shapes.parse(shape.model_dump(mode="json")) == shape
    assert Drawing.model_validate_json(Drawing(shape=shape).model_dump_json()).shape == shape


@given(SHAPES)
def test_equal_parts_have_equal_hashes(shape):
    assert hash(shapes.parse(shape.model_dump())) == hash(shape)


def test_a_dump_names_the_type_at_every_level():
    drawing = Drawing(shape=Around(base=Circle(radius=2)), more={"a": Row(members=(Circle(),))})
    circle = {"type": "circle", "radius": 1.0}
    assert drawing.model_dump() == {
        "shape": {"type": "around", "base": {"type": "circle", "radius": 2.0}, "margin": 1},
        "more": {"a": {"type": "row", "members": (circle,), "last": circle}},
        "frame": None,
    }


@pytest.mark.parametrize("value", [Circle(), "circle", {"type": "circle"}, {"type": "circle", "radius": 1}])
def test_a_field_of_any_model_takes_an_instance_a_name_or_a_mapping(value):
    assert Drawing(shape=value).shape == Circle()
    assert Drawing(shape="circle", more={"a": value}, frame=value) == Drawing(shape="circle", more={"a": Circle()}, frame=Circle())


def test_a_nested_part_may_be_a_bare_name():
    value = {"type": "around", "base": {"type": "around", "base": "circle"}}
    assert Drawing(shape=value).shape == Around(base=Around(base=Circle()))


def test_a_field_of_one_class_takes_that_class_only():
    class Wheel(Frozen):
        rim: Circle

    assert Wheel.model_validate({"rim": {"type": "circle", "radius": 2}}).rim == Circle(radius=2)
    assert problems(Wheel, {"rim": {"type": "around"}}) == {"rim.type": "found 'around'; only 'circle' fits here"}


def test_errors_keep_the_whole_path_of_fields():
    value = {"type": "around", "base": {"type": "row", "members": ["circle", {"type": "circle", "radius": -1}], "last": {"type": "circel"}}}
    assert problems(Drawing, {"shape": value, "more": {"a": {"type": "around"}}}) == {
        "shape.base.members.1.radius": "found -1; give a value above 0",
        "shape.base.last": "unknown shape 'circel'; did you mean 'circle'?",
        "more.a.base": "is required and missing; add it",
    }


def test_an_unknown_field_of_a_nested_part_is_refused_with_a_near_one():
    assert problems(Drawing, {"shape": {"type": "around", "base": "circle", "margins": 2}}) == {
        "shape.margins": "unknown field; did you mean 'margin'?"
    }


def test_a_part_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        Circle().radius = 2.0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_part_refuses_numbers_that_are_not_finite(value):
    assert problems(Circle, {"radius": value}) == {"radius": f"found {value!r}; give a finite number"}


def test_defaults_are_validated_as_well():
    class Hole(Frozen):
        radius: PositiveInt = 0

    assert problems(Hole, {}) == {"radius": "found 0; give a value above 0"}


def test_a_validator_of_several_fields_points_at_the_one_that_is_wrong():
    error = field_error("Drawing", ("shape", "radius"), "3 does not fit; give 2", 3)
    assert [(problem.field, problem.message) for problem in format_errors(error)] == [("shape.radius", "3 does not fit; give 2")]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (int, "x", "found 'x'; give an integer"),
        (int, 1.5, "found 1.5; give an integer"),
        (float, "x", "found 'x'; give a number"),
        (bool, "x", "found 'x'; give true or false"),
        (str, 3, "found 3; give text"),
        (tuple[int, ...], 3, "found 3; give a list"),
        (dict[str, int], 3, "found 3; give a mapping of names to values"),
        (Circle, 3, "found 3; give a mapping of fields"),
    ],
)
def test_a_value_of_another_kind_is_refused_in_plain_words(field, value, message):
    class Holder(Frozen):
        value: field

    assert problems(Holder, {"value": value}) == {"value": message}


def test_a_long_value_is_shortened_in_the_message():
    assert problems(Circle, {"radius": "x" * 100}) == {"radius": f"found '{'x' * 56}...; give a number"}
