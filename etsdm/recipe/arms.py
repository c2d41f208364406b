"""Arms: the variants that a recipe compares.

    arms:
      baseline:
      e-tsdm:
        model.condition_map: e-tsdm

Each arm is a mapping of changes, merged into the recipe by the rule of `etsdm.recipe.tree`; an arm without changes is the recipe as
written, also where it would inherit changes. A recipe without arms has one, `default`. `e-tsdm: drop` takes an inherited arm away.
"""

from __future__ import annotations

import re

from etsdm.recipe.limits import MAX_ARMS
from etsdm.recipe.locations import recipe_error
from etsdm.recipe.tree import Document, Node, merge, nested
from etsdm.registry import quoted, suggestion

__all__ = ["DEFAULT_ARM", "DROP", "arm_document", "arm_names", "merge_recipes", "nested_arms"]

DEFAULT_ARM = "default"
DROP = "drop"  # in place of an arm's changes

# The name of an arm is the name of a folder, on file systems that ignore case too.
_NAME = re.compile(r"[a-z0-9]+([-_][a-z0-9]+)*")


def nested_arms(root: Node) -> dict[str, Node]:
    """The changes of each arm, with dotted keys as nested mappings; empty without arms.

    Raises:
        RecipeError: `arms` or an arm is not a mapping, or the name of an arm is not valid as a folder's.
    """
    arms = root.value.get("arms", Node(None))
    if arms.value is None:
        return {}
    if not isinstance(arms.value, dict):
        raise recipe_error(("arms",), f"found {quoted(arms.plain)}; give a mapping of names to changes", arms.location)
    if len(arms.value) > MAX_ARMS:
        raise recipe_error(("arms",), f"{len(arms.value):,} arms; give {MAX_ARMS} or fewer", arms.location)
    return {name: _nested_arm(name, changes) for name, changes in arms.value.items()}


def _nested_arm(name: str, changes: Node) -> Node:
    if not _NAME.fullmatch(name):
        message = "is no name for an arm; use lower case letters and digits, joined by single hyphens or underscores"
        raise recipe_error(("arms",), f"{name!r} {message}", changes.nearest_location)
    if changes.value is None or changes.value == DROP:
        return changes
    if not isinstance(changes.value, dict):
        raise recipe_error(
            ("arms", name),
            f"found {quoted(changes.plain)}; give a mapping of changes, nothing, or {DROP} to take an inherited arm away",
            changes.location,
        )
    return Node(nested(changes, ("arms", name)).value, changes.location)


def merge_recipes(below: Node, above: Node) -> Node:
    """Merges two recipes, and takes the arms away that the upper one drops.

    Raises:
        RecipeError: it drops an arm that the lower one does not have, or as `merge`.
    """
    merged = merge(below, above)
    arms, inherited = (root.value.get("arms", Node(None)) for root in (merged, below))
    if not isinstance(arms.value, dict):
        return merged
    known = inherited.value if isinstance(inherited.value, dict) else {}
    for name, changes in arms.value.items():
        if changes.value == DROP and name not in known:
            message = f"there is no arm to drop; {suggestion(name, known, 'inherited')}"
            raise recipe_error(("arms", name), message, changes.nearest_location)
    kept = {name: changes for name, changes in arms.value.items() if changes.value != DROP}
    return Node({**merged.value, "arms": Node(kept, arms.location)}, merged.location)


def arm_names(document: Document) -> list[str]:
    """The names of the arms, in the order of the recipe."""
    return list(nested_arms(document.root)) or [DEFAULT_ARM]


def arm_document(document: Document, name: str) -> Document:
    """The recipe of one arm: its changes merged in, without `arms`.

    Raises:
        RecipeError: unknown arm, or invalid arms.
    """
    arms = nested_arms(document.root) or {DEFAULT_ARM: Node(None)}
    if name not in arms:
        raise recipe_error(("arms",), f"there is no arm {name!r}; {suggestion(name, arms, 'it has')}", document.location_of(("arms",)))
    recipe = Node({key: node for key, node in document.root.value.items() if key != "arms"}, document.root.location)
    # Without the arm's source location: a field that is missing from the recipe is missing there, not in the arm.
    return Document(merge(recipe, Node(arms[name].value or {})))
