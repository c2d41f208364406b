"""`PartError`, whose field is data and not a part of its text."""

import pickle

import pytest
from pydantic import ValidationError, model_validator

import etsdm
from etsdm.errors import EtsdmError, PartError
from etsdm.registry import Frozen, format_errors


@pytest.mark.parametrize("field", ["grid.at", ("grid", "at")])
def test_the_field_is_a_path_apart_from_the_message(field):
    error = PartError(field, "none: give some")
    assert (error.path, error.field, error.message) == (("grid", "at"), "grid.at", "none: give some")
    assert str(error) == "grid.at: none: give some"


def test_an_entry_of_a_list_is_counted_in_the_path():
    assert PartError(("at", 2), "too late").field == "at.2"


def test_it_is_a_value_error_of_the_mathematics_and_public():
    assert issubclass(PartError, ValueError)
    assert not issubclass(PartError, EtsdmError)
    assert etsdm.PartError is PartError


def test_it_comes_back_whole_from_another_process():
    error = pickle.loads(pickle.dumps(PartError(("at", 2), "too late")))
    assert (error.path, error.message) == (("at", 2), "too late")


def test_raised_by_a_models_validator_it_points_to_its_field():
    class Ends(Frozen):
        start: float = 1.0
        end: float = 0.0

        @model_validator(mode="after")
        def _in_order(self):
            if self.end > self.start:
                raise PartError("end", f"{self.end:g} is after {self.start:g}; give less")
            return self

    with pytest.raises(ValidationError) as error:
        Ends(end=2.0)
    assert [(problem.field, problem.message) for problem in format_errors(error.value)] == [("end", "2 is after 1; give less")]
