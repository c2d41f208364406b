from typing import Any, Literal

import pytest
from pydantic import PositiveInt, model_validator

from etsdm.errors import RecipeError
from etsdm.recipe.arms import arm_document
from etsdm.recipe.files import read
from etsdm.recipe.load import override, validate
from etsdm.recipe.tree import Document
from etsdm.registry import Frozen, Part, Registry, field_error

schedules: Registry[Any] = Registry("schedules", "etsdm.registry", "schedule")


class Schedule(Part, family=schedules):
    """A family of parts."""


@schedules.register("linear")
class Linear(Schedule):
    """A part with a default."""

    timesteps: PositiveInt = 1000


@schedules.register("rescaled")
class Rescaled(Schedule):
    """A part around a part."""

    base: Schedule


class Model(Frozen):
    schedule: Schedule
    target: Literal["eps", "v"] = "eps"


class Recipe(Frozen):
    model: Model
    metrics: tuple[Schedule, ...] = ()
    images: PositiveInt

    @model_validator(mode="after")
    def _fits(self) -> "Recipe":
        if self.images == 13:
            raise field_error("Recipe", ("model", "target"), "does not go with 13\nimages")
        return self


def write(folder, text):
    file = folder / "a.yaml"
    file.write_text(text)
    return file


def refused(document):
    with pytest.raises(RecipeError) as error:
        validate(document, Recipe)
    return str(error.value)


GOOD = "images: 10\nmodel:\n  schedule:\n    type: rescaled\n    base:\n      type: linear\n      timesteps: 5\nmetrics:\n  - linear\n"


def test_a_good_document_becomes_its_model(tmp_path):
    recipe = validate(read(write(tmp_path, GOOD)), Recipe)
    assert recipe == Recipe(images=10, model=Model(schedule=Rescaled(base=Linear(timesteps=5))), metrics=(Linear(),))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("timesteps: 5", "timesteps: 0", "model.schedule.base.timesteps: found 0; give a value above 0 (FILE:7)"),
        ("timesteps: 5", "timestep: 5", "model.schedule.base.timestep: unknown field; did you mean 'timesteps'? (FILE:7)"),
        (
            "type: linear\n      timesteps: 5",
            "type: liner",
            "model.schedule.base: unknown schedule 'liner'; did you mean 'linear'? (FILE:5)",
        ),
        ("- linear", "- liner", "metrics.0: unknown schedule 'liner'; did you mean 'linear'? (FILE:9)"),
        # Missing fields: the line of the part, also when it is a bare name, and the first line of the document.
        ("\n    base:\n      type: linear\n      timesteps: 5", "", "model.schedule.base: is required and missing; add it (FILE:3)"),
        ("- linear", "- rescaled", "metrics.0.base: is required and missing; add it (FILE:9)"),
        ("images: 10\n", "", "images: is required and missing; add it (FILE:1)"),
        # From a validator that looks at several fields; the message is put on one line.
        ("images: 10", "images: 13", "model.target: does not go with 13 images (FILE:2)"),
        ("images: 10", "arms:\nimages: 10", "arms: unknown field; it has: images, metrics, model (FILE:1)"),
    ],
)
def test_a_problem_is_one_line_with_its_place(tmp_path, old, new, message):
    assert old in GOOD
    file = write(tmp_path, GOOD.replace(old, new))
    assert refused(read(file)) == message.replace("FILE", str(file))


def test_each_problem_has_its_own_line(tmp_path):
    file = write(tmp_path, "model:\n  schedule: {type: linear, timesteps: x}\n  target: x0\n")
    assert refused(read(file)).splitlines() == [
        f"model.schedule.timesteps: found 'x'; give an integer ({file}:2)",
        f"model.target: found 'x0'; give 'eps' or 'v' ({file}:3)",
        f"images: is required and missing; add it ({file}:1)",
    ]


def test_a_problem_of_an_arm_is_at_its_line(tmp_path):
    file = write(tmp_path, GOOD + "arms:\n  x:\n    model.target: x0\n    metrics.0.timesteps: -1\n")
    assert refused(arm_document(read(file), "x")).splitlines() == [
        f"model.target: found 'x0'; give 'eps' or 'v' ({file}:12)",
        f"metrics.0.timesteps: found -1; give a value above 0 ({file}:13)",
    ]


def test_a_problem_of_an_override_is_at_the_command_line(tmp_path):
    document = read(write(tmp_path, GOOD))
    assert refused(override(document, ["model.target=x0"])) == "model.target: found 'x0'; give 'eps' or 'v' (command line)"
    assert refused(override(document, ["model.schedule.base.steps=1"])) == (
        "model.schedule.base.steps: unknown field; did you mean 'timesteps'? (command line)"
    )


def test_a_problem_of_plain_data_has_no_place():
    assert refused(Document.of({"model": {"schedule": "linear"}})) == "images: is required and missing; add it"
