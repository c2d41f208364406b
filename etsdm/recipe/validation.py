"""From a document to a model, with every refusal at its line."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from etsdm.errors import RecipeError
from etsdm.recipe.document import Document, refusal
from etsdm.registry import explain

__all__ = ["validate"]

M = TypeVar("M", bound=BaseModel)


def validate(document: Document, model: type[M]) -> M:
    """Makes a model of a document.

    Raises:
        RecipeError: the model refuses the document; one line `field.path: message (file:line)` for each problem. The mark is
            that of the field, and of the mapping or part around it where the field itself was not written.
    """
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        problems = [refusal(found.location, found.message, document.place(found.location)) for found in explain(error)]
    raise RecipeError("\n".join(" ".join(str(problem).splitlines()) for problem in problems))
