"""The tree of a recipe: plain data in which every value remembers the file and line that set it, and the one rule of merging.

A document is a tree of nodes. `Document.data` is what a model validates, `Document.place` is where to point when it refuses:
`extends`, arms and overrides merge trees, so that marks follow values.

The merge rule, of a file over what it extends, of an arm over its recipe, and of an override over what it overrides:

- Mappings merge key by key, to any depth. Anything else (a number, text, null, a list) replaces what is below.
- A mapping whose `type` differs from the `type` below replaces it whole: the fields of one part mean nothing to another. If
  only one of the two has a `type`, they merge.
- Text below a mapping is a part's bare name: `linear` becomes `{type: linear}`, then the two merge. A bare name above
  replaces the part whole, even one of the same type: `schedule: linear` is a linear schedule with its defaults, whereas
  `schedule: {type: linear}` keeps the fields that a linear schedule below has.
- A mapping whose keys are all numbers, over a list, merges into those entries of the list, counted from 0.

In arms and overrides a dotted key is a path: `model.condition_map.n: 10` is `model: {condition_map: {n: 10}}`. A field whose
own name holds a dot can be set in a recipe, not in an arm or override. Shorter paths are set first, whatever the order of the
lines: `schedule: cosine` with `schedule.s: 0.01` is a cosine schedule with that `s`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import BaseModel

from etsdm.errors import RecipeError

__all__ = ["COMMAND_LINE", "Document", "Location", "Node", "SourceLocation", "merge", "nested", "recipe_error"]


# The path of a field: names, and indices in lists.
Location = tuple[str | int, ...]


@dataclass(frozen=True)
class SourceLocation:
    """Where a value was written: the file as it was named, and the line, counted from 1; None if there are no lines."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


COMMAND_LINE = SourceLocation("command line")


def recipe_error(path: Location, message: str, mark: SourceLocation | None) -> RecipeError:
    """The error `field.path: message (file:line)`, without the parts that are not known."""
    field = ".".join(str(step) for step in path)
    where = f" ({mark})" if mark else ""
    return RecipeError(f"{field}: {message}{where}" if field else f"{message}{where}")


@dataclass(frozen=True)
class Node:
    """A value and its mark.

    Attributes:
        value: a dict of nodes by name, a list of nodes, or a scalar.
        mark: for an entry of a mapping, the line of its key. None for a mapping that exists only because a dotted key passes
            through it, and for values that were not read from a file.
    """

    value: Any
    mark: SourceLocation | None = None

    @classmethod
    def of(cls, value: Any, path: Location = ()) -> Node:
        """A tree without marks from plain data; models in it are replaced by their dumps."""
        if isinstance(value, BaseModel):
            value = value.model_dump(mode="json")
        if isinstance(value, Mapping):
            for key in value:
                if not isinstance(key, str):
                    raise recipe_error(path, f"the key {key!r} is not text; write it as {str(key)!r}", None)
            return cls({key: cls.of(entry, (*path, key)) for key, entry in value.items()})
        if isinstance(value, (list, tuple)):
            return cls([cls.of(entry, (*path, i)) for i, entry in enumerate(value)])
        return cls(value)

    @property
    def plain(self) -> Any:
        """The value as dicts, lists and scalars."""
        if isinstance(self.value, dict):
            return {key: node.plain for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain for node in self.value]
        return self.value

    @property
    def place(self) -> SourceLocation | None:
        """The node's own mark, or else that of its first entry that has one."""
        return self.mark or next((node.place for _, node in self.entries() if node.place), None)

    def entries(self) -> Iterator[tuple[str | int, Node]]:
        """The keys or indices, and the nodes there; nothing for a scalar."""
        if isinstance(self.value, dict):
            yield from self.value.items()
        elif isinstance(self.value, list):
            yield from enumerate(self.value)


@dataclass(frozen=True)
class Document:
    """A recipe as it was written, before any model looks at it. Its root is a mapping."""

    root: Node

    @classmethod
    def of(cls, recipe: Mapping[str, Any] | BaseModel) -> Document:
        """A document without marks, from a mapping or from a model. Raises: RecipeError for a key that is not text."""
        return cls(Node.of(recipe))

    @cached_property
    def data(self) -> dict[str, Any]:
        """The plain data."""
        data: dict[str, Any] = self.root.plain
        return data

    @cached_property
    def marks(self) -> dict[Location, SourceLocation]:
        """Where each value was written, by its path; `()` is the whole document."""
        return dict(_marks(self.root, ()))

    def place(self, path: Location) -> SourceLocation | None:
        """Where to look for `path`: the mark of its longest prefix that the document holds."""
        node, mark = self.root, self.root.place
        for step in path:
            entries = dict(node.entries())
            if step not in entries:
                break
            node = entries[step]
            mark = node.place or mark
        return mark


def _marks(node: Node, path: Location) -> Iterator[tuple[Location, SourceLocation]]:
    if node.place:
        yield path, node.place
    for step, entry in node.entries():
        yield from _marks(entry, (*path, step))


def merge(below: Node, above: Node, path: Location = ()) -> Node:
    """Lays one tree over another; neither is changed.

    A mapping of both keeps the mark of the upper one if it has any.

    Args:
        below: what is changed.
        above: the changes, which win.
        path: where the two trees stand in the recipe, for messages.

    Raises:
        RecipeError: a change of an entry that a list does not have.
    """
    if not isinstance(above.value, dict):
        return above
    if isinstance(below.value, str):
        below = Node({"type": below}, below.mark)
    if isinstance(below.value, list) and above.value and all(_is_index(key) for key in above.value):
        return _merge_entries(below.value, above, path, below.mark)
    if not isinstance(below.value, dict) or _differ_in_type(below.value, above.value):
        return above
    entries = dict(below.value)
    for key, node in above.value.items():
        entries[key] = merge(entries[key], node, (*path, key)) if key in entries else node
    return Node(entries, above.mark or below.mark)


def _merge_entries(below: list[Node], above: Node, path: Location, mark: SourceLocation | None) -> Node:
    entries = list(below)
    for key, node in above.value.items():
        i = int(key)
        if i >= len(entries):
            known = f"its entries are 0 to {len(entries) - 1}" if entries else "it is empty; give the whole list"
            raise recipe_error((*path, i), f"the list has no such entry; {known}", node.place)
        entries[i] = merge(entries[i], node, (*path, i))
    return Node(entries, above.mark or mark)


def _is_index(key: str) -> bool:
    return key.isascii() and key.isdigit()


def _differ_in_type(below: dict[str, Node], above: dict[str, Node]) -> bool:
    return "type" in below and "type" in above and below["type"].value != above["type"].value


def nested(changes: Node, path: Location = ()) -> Node:
    """Turns the dotted keys of a mapping, at any depth, into nested mappings; those carry no marks, only the values do.

    Args:
        changes: a mapping.
        path: where it stands in the recipe, for messages.

    Raises:
        RecipeError: one value is given under two spellings, or a key has an empty step.
    """
    result = Node({})
    given: dict[Location, Node] = {}
    for steps, node in sorted(_values(changes, (), path), key=lambda pair: len(pair[0])):
        if steps in given:
            raise recipe_error((*path, *steps), f"given twice, here and at {given[steps].place}; keep one", node.place)
        given[steps] = node
        for step in reversed(steps):
            node = Node({step: node})
        result = merge(result, node, path)
    return result


def _values(node: Node, steps: tuple[str, ...], path: Location) -> Iterator[tuple[tuple[str, ...], Node]]:
    if not isinstance(node.value, dict) or (steps and not node.value):
        yield steps, node
        return
    for key, entry in node.value.items():
        names = key.split(".")
        if "" in names:
            raise recipe_error((*path, *steps), f"the key {key!r} has an empty step; write names with single dots between", entry.place)
        yield from _values(entry, (*steps, *names), path)
