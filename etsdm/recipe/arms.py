"""Arms: the variants of one recipe that a run compares.

    arms:
      baseline:
      e-tsdm:
        model.condition_map: e-tsdm

Each arm holds changes of the recipe, which follow the rule of `etsdm.recipe.merging`. A recipe without arms has one, `default`.
"""

from __future__ import annotations

import re

from etsdm.recipe.document import Document, Node, refusal
from etsdm.recipe.merging import merge, nested
from etsdm.registry import suggestion

__all__ = ["DEFAULT_ARM", "arm_document", "arm_names", "nested_arms"]

DEFAULT_ARM = "default"

# An arm's name is a folder of the run, also where file systems ignore case.
_NAME = re.compile(r"[a-z0-9]+([-_][a-z0-9]+)*")


def nested_arms(root: Node) -> dict[str, Node]:
    """The arms of a recipe's tree with their dotted keys nested; empty if the recipe has none.

    Raises:
        RecipeError: `arms` or an arm is not a mapping, or a name cannot be a folder's.
    """
    arms = root.value.get("arms", Node(None))
    if arms.value is None:
        return {}
    if not isinstance(arms.value, dict):
        raise refusal(("arms",), f"found {arms.plain!r}; give a mapping of names to changes", arms.mark)
    return {name: _nested_arm(name, changes) for name, changes in arms.value.items()}


def _nested_arm(name: str, changes: Node) -> Node:
    if not _NAME.fullmatch(name):
        message = "is no name for an arm; use lower case letters and digits, joined by single hyphens or underscores"
        raise refusal(("arms",), f"{name!r} {message}", changes.place)
    if changes.value is None:
        return changes
    if not isinstance(changes.value, dict):
        raise refusal(("arms", name), f"found {changes.plain!r}; give a mapping of changes, or nothing", changes.mark)
    return Node(nested(changes, ("arms", name)).value, changes.mark)


def arm_names(document: Document) -> list[str]:
    """The names of the arms in the order of the recipe."""
    return list(nested_arms(document.root)) or [DEFAULT_ARM]


def arm_document(document: Document, name: str) -> Document:
    """The recipe of one arm: its changes merged in, `arms` taken away.

    Raises:
        RecipeError: there is no such arm, or the arms are malformed.
    """
    arms = nested_arms(document.root) or {DEFAULT_ARM: Node(None)}
    if name not in arms:
        raise refusal(("arms",), f"there is no arm {name!r}; {suggestion(name, arms, 'it has')}", document.place(("arms",)))
    recipe = Node({key: node for key, node in document.root.value.items() if key != "arms"}, document.root.mark)
    # Without the mark of the arm: a field that is missing from the recipe is missing there, not in the arm.
    return Document(merge(recipe, Node(arms[name].value or {})))
