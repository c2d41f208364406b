"""Recipe documents: plain data in which every value remembers the file and line that set it.

A document is a tree of nodes. `Document.data` is what a model validates, `Document.place` is where to point when it refuses:
`extends`, arms and overrides merge trees (`etsdm.recipe.merging`), so that marks follow values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import BaseModel

from etsdm.errors import RecipeError

__all__ = ["COMMAND_LINE", "Document", "Location", "Mark", "Node", "refusal"]

# The path of a field: names, and indices in lists.
Location = tuple[str | int, ...]


@dataclass(frozen=True)
class Mark:
    """Where a value was written: the file as it was named, and the line, counted from 1; None if there are no lines."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


COMMAND_LINE = Mark("command line")


def refusal(path: Location, message: str, mark: Mark | None) -> RecipeError:
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
    mark: Mark | None = None

    @classmethod
    def of(cls, value: Any, path: Location = ()) -> Node:
        """A tree without marks from plain data; models in it are replaced by their dumps."""
        if isinstance(value, BaseModel):
            value = value.model_dump(mode="json")
        if isinstance(value, Mapping):
            for key in value:
                if not isinstance(key, str):
                    raise refusal(path, f"the key {key!r} is not text; write it as {str(key)!r}", None)
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
    def place(self) -> Mark | None:
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
    def marks(self) -> dict[Location, Mark]:
        """Where each value was written, by its path; `()` is the whole document."""
        return dict(_marks(self.root, ()))

    def place(self, path: Location) -> Mark | None:
        """Where to look for `path`: the mark of its longest prefix that the document holds."""
        node, mark = self.root, self.root.place
        for step in path:
            entries = dict(node.entries())
            if step not in entries:
                break
            node = entries[step]
            mark = node.place or mark
        return mark


def _marks(node: Node, path: Location) -> Iterator[tuple[Location, Mark]]:
    if node.place:
        yield path, node.place
    for step, entry in node.entries():
        yield from _marks(entry, (*path, step))
