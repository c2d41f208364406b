"""The tree of a recipe: plain data with the source location (file and line) of every value, and the rule of merging.

A document is a tree of nodes. Models validate `Document.data`; `Document.location_of` gives the source location for an error message.
`extends`, arms and overrides merge trees, so that source locations follow values.

The merge rule, of a file over what it extends, of an arm over its recipe, and of an override over what it overrides:

- Mappings merge key by key, recursively. Any other value (number, text, null, list) replaces the value below.
- A mapping replaces one with another `type`, because parts of different types have different fields. If only one of the two has a
  `type`, they merge.
- Text below a mapping is the bare name of a part: `linear` becomes `{type: linear}`, then the two merge. A bare name above replaces
  the part below, even one of the same type: `schedule: linear` is a linear schedule with its defaults, whereas
  `schedule: {type: linear}` keeps the fields of a linear schedule below.
- A mapping over a list, with numbers as keys, merges into those entries of the list, counted from 0.

In arms and overrides a dotted key is a path: `model.condition_map.n: 10` is `model: {condition_map: {n: 10}}`. A field whose
own name contains a dot can be set in a recipe, not in an arm or override. Shorter paths apply first, whatever the order of lines:
`schedule: cosine` with `schedule.s: 0.01` is a cosine schedule with that `s`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import BaseModel

from etsdm.recipe.limits import Budget, check_key, check_scalar
from etsdm.recipe.locations import FieldPath, SourceLocation, recipe_error
from etsdm.registry import quoted
from etsdm.registry.paths import TextOfFile

__all__ = ["Document", "Node", "merge", "nested"]


@dataclass(frozen=True)
class Node:
    """A value with its source location.

    Attributes:
        value: a dict of nodes by name, a list of nodes, or a scalar.
        location: its source location; for an entry of a mapping, the line of its key. None for a mapping made from a dotted key, and for
            values that were not read from a file.
    """

    value: Any
    location: SourceLocation | None = None

    @classmethod
    def of(cls, value: Any) -> Node:
        """A tree without source locations, from plain data and models, which are dumped. Raises: RecipeError if it is too large."""
        return cls._of(value, (), Budget())

    @classmethod
    def _of(cls, value: Any, path: FieldPath, budget: Budget) -> Node:
        budget.spend(path, None)
        if isinstance(value, BaseModel):
            value = value.model_dump(mode="json")
        if isinstance(value, Mapping):
            for key in value:
                if not isinstance(key, str):
                    raise recipe_error(path, f"the key {quoted(key)} is not text; write it as {quoted(str(key))}", None)
                check_key(key, path, None)
            return cls({key: cls._of(entry, (*path, key), budget) for key, entry in value.items()})
        if isinstance(value, (list, tuple)):
            return cls([cls._of(entry, (*path, i), budget) for i, entry in enumerate(value)])
        check_scalar(value, path, None)
        return cls(value)

    @property
    def plain(self) -> Any:
        """The value as dicts, lists and scalars; text of a file knows its folder."""
        if isinstance(self.value, dict):
            return {key: node.plain for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain for node in self.value]
        if isinstance(self.value, str) and self.location and self.location.line is not None:
            return TextOfFile(self.value, os.path.dirname(self.location.file))
        return self.value

    @property
    def nearest_location(self) -> SourceLocation | None:
        """The source location of the node, or else of its first entry with one."""
        if self.location:
            return self.location
        return next(filter(None, (node.nearest_location for _, node in self.entries())), None)

    def entries(self) -> Iterator[tuple[str | int, Node]]:
        """Yields keys or indices with their nodes; nothing for a scalar."""
        if isinstance(self.value, dict):
            yield from self.value.items()
        elif isinstance(self.value, list):
            yield from enumerate(self.value)

    def entry(self, step: str | int) -> Node | None:
        """The entry with a key or index, None if there is none."""
        if isinstance(self.value, dict):
            return self.value.get(step)
        if isinstance(self.value, list) and isinstance(step, int) and step < len(self.value):
            entry: Node = self.value[step]
            return entry
        return None


@dataclass(frozen=True)
class Document:
    """A recipe before validation: a tree whose root is a mapping."""

    root: Node

    @classmethod
    def of(cls, recipe: Mapping[str, Any] | BaseModel) -> Document:
        """A document without source locations, from a mapping or model. Raises: RecipeError for a key that is not text."""
        return cls(Node.of(recipe))

    @cached_property
    def data(self) -> dict[str, Any]:
        """The plain data, as dicts, lists and scalars."""
        data: dict[str, Any] = self.root.plain
        return data

    @cached_property
    def locations(self) -> dict[FieldPath, SourceLocation]:
        """The source location of each value by its path; `()` is the whole document."""
        return dict(_locations(self.root, ()))

    def location_of(self, path: FieldPath) -> SourceLocation | None:
        """The source location for a path: that of its longest prefix in the document."""
        node, location = self.root, self.root.nearest_location
        for step in path:
            entry = node.entry(step)
            if entry is None:
                break
            node = entry
            location = node.nearest_location or location
        return location


def _locations(node: Node, path: FieldPath) -> Iterator[tuple[FieldPath, SourceLocation]]:
    if node.nearest_location:
        yield path, node.nearest_location
    for step, entry in node.entries():
        yield from _locations(entry, (*path, step))


def merge(below: Node, above: Node, path: FieldPath = ()) -> Node:
    """Merges two trees into a new one by the rule of this module.

    A mapping of both has the source location of the upper one, if any.

    Args:
        below: the tree to change.
        above: the changes.
        path: path of both in the recipe, for messages.

    Raises:
        RecipeError: a change of an entry that the list below does not have.
    """
    if not isinstance(above.value, dict):
        return above
    if isinstance(below.value, str):
        below = Node({"type": below}, below.location)
    if isinstance(below.value, list) and above.value and all(_is_index(key) for key in above.value):
        return _merge_entries(below.value, above, path, below.location)
    if not isinstance(below.value, dict) or _differ_in_type(below.value, above.value):
        return above
    entries = dict(below.value)
    for key, node in above.value.items():
        entries[key] = merge(entries[key], node, (*path, key)) if key in entries else node
    return Node(entries, above.location or below.location)


def _merge_entries(below: list[Node], above: Node, path: FieldPath, location: SourceLocation | None) -> Node:
    entries = list(below)
    for key, node in above.value.items():
        i = int(key)
        if i >= len(entries):
            known = f"its entries are 0 to {len(entries) - 1}" if entries else "it is empty; give the whole list"
            raise recipe_error((*path, i), f"the list has no such entry; {known}", node.nearest_location)
        entries[i] = merge(entries[i], node, (*path, i))
    return Node(entries, above.location or location)


def _is_index(key: str) -> bool:
    return key.isascii() and key.isdigit()


def _differ_in_type(below: dict[str, Node], above: dict[str, Node]) -> bool:
    return "type" in below and "type" in above and below["type"].value != above["type"].value


def nested(changes: Node, path: FieldPath = ()) -> Node:
    """Turns dotted keys, at any depth, into nested mappings, which have no source location of their own.

    Args:
        changes: a mapping.
        path: its path in the recipe, for messages.

    Raises:
        RecipeError: a value is given in two spellings, or a key has an empty step.
    """
    result = Node({})
    given: dict[FieldPath, Node] = {}
    for steps, node in sorted(_values(changes, (), path), key=lambda pair: len(pair[0])):
        if steps in given:
            message = f"given twice, here and at {given[steps].nearest_location}; keep one"
            raise recipe_error((*path, *steps), message, node.nearest_location)
        given[steps] = node
        for step in reversed(steps):
            node = Node({step: node})
        result = merge(result, node, path)
    return result


def _values(node: Node, steps: tuple[str, ...], path: FieldPath) -> Iterator[tuple[tuple[str, ...], Node]]:
    if not isinstance(node.value, dict) or (steps and not node.value):
        yield steps, node
        return
    for key, entry in node.value.items():
        check_key(key, (*path, *steps), entry.nearest_location)
        names = key.split(".")
        if "" in names:
            message = f"the key {key!r} has an empty step; write names with single dots between"
            raise recipe_error((*path, *steps), message, entry.nearest_location)
        yield from _values(entry, (*steps, *names), path)
