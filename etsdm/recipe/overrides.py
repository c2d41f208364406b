"""Overrides: changes of a recipe from the command line, `training.images=20000`.

The key is a path with dots and may count the entries of lists (`evaluation.metrics.0.images=100`). The value is YAML:
`a.b=[1, 2]`, `model.condition_map={type: e-tsdm, n: 10}`, `model.time_input=null`.
"""

from __future__ import annotations

from collections.abc import Iterable

from etsdm.recipe.document import COMMAND_LINE, Document, Node, refusal
from etsdm.recipe.merging import merge, nested
from etsdm.recipe.yaml import compose

__all__ = ["override"]


def override(document: Document, assignments: Iterable[str]) -> Document:
    """Merges `key=value` texts into a document, one after the other.

    Raises:
        RecipeError: an assignment is not of that form, or its value is not YAML.
    """
    root = document.root
    for assignment in assignments:
        root = merge(root, nested(_parse(assignment)))
    return Document(root)


def _parse(assignment: str) -> Node:
    key, sign, text = assignment.partition("=")
    key = key.strip()
    if not sign or not key:
        raise refusal((), f"override {assignment!r}: write key=value, for example training.images=20000", COMMAND_LINE)
    value = compose(text, lambda line: COMMAND_LINE, (key,))
    if value is None:
        raise refusal((key,), f"no value after the equals sign; write {key}=null for none or {key}=\"''\" for empty text", COMMAND_LINE)
    return Node({key: value})
