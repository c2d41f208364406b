"""YAML: reading into nodes with source locations, and writing in a form that YAML 1.1 and 1.2 read alike.

PyYAML composes its nodes and constructs no objects; scalars are resolved here by the core schema of YAML 1.2:

    null   null Null NULL ~ and nothing
    bool   true True TRUE false False FALSE (on, off, yes and no are text)
    int    12, 012 (= 12), 0o17, 0x1f       (1_000 and 1:30 are text)
    float  1.5, 1e-4, .5, .inf, .nan
    text   everything else, dates included

Anchors and aliases are supported. Merge keys (`<<`) are errors: recipes inherit by `extends`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import yaml
from pydantic import BaseModel

from etsdm.errors import RecipeError
from etsdm.recipe.tree import FieldPath, Node, SourceLocation, recipe_error

__all__ = ["compose", "to_yaml"]

_TAG = "tag:yaml.org,2002:"
_MAX_VALUES = 100_000  # of a document; nested aliases can expand to more than fits into memory


def _integer(text: str) -> int:
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


def _real(text: str) -> float:
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


# Tag, pattern and conversion; the first pattern that fits a plain scalar decides. Integers also fit the pattern of reals.
_RULES: tuple[tuple[str, str, Callable[[str], object]], ...] = (
    ("null", r"~|null|Null|NULL|", lambda text: None),
    ("bool", r"true|True|TRUE|false|False|FALSE", lambda text: text.lower() == "true"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", _integer),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", _real),
)
SCALARS = {_TAG + name: re.compile(rf"(?:{pattern})\Z") for name, pattern, _ in _RULES}
_CONVERSIONS: dict[str, Callable[[str], object]] = {f"{_TAG}str": str} | {_TAG + name: convert for name, _, convert in _RULES}


class _Composer(yaml.SafeLoader):
    yaml_implicit_resolvers = {}  # noqa: RUF012 (PyYAML's own name, without its rules of YAML 1.1)


for _tag, _pattern in SCALARS.items():
    _Composer.add_implicit_resolver(_tag, _pattern, None)


def compose(text: str, locate: Callable[[int], SourceLocation], path: FieldPath = ()) -> Node | None:
    """Parses one YAML document.

    Args:
        text: the document.
        locate: maps a line, from 1, to its source location.
        path: path of the document in the recipe, for messages.

    Returns:
        The root node; None for a text without a value.

    Raises:
        RecipeError: invalid syntax, a duplicate key, a key that is not text, or a tag outside the core schema.
    """
    try:
        root = _Composer(text).get_single_node()
        if root is None:
            return None
        return _Converter(locate).node(root, path, locate(root.start_mark.line + 1), frozenset())
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, text, locate, path) from None
    except yaml.reader.ReaderError as error:
        message = f"the character U+{ord(text[error.position]):04X} is not allowed; remove it"
        raise recipe_error(path, message, locate(text.count("\n", 0, error.position) + 1)) from None
    except RecursionError:
        raise recipe_error(path, "the values are nested too deep; write them flatter", locate(1)) from None


def _syntax_error(error: yaml.MarkedYAMLError, text: str, locate: Callable[[int], SourceLocation], path: FieldPath) -> RecipeError:
    at = error.problem_mark or error.context_mark
    line, column = (at.line, at.column) if at else (0, 0)
    lines = text.splitlines()
    indentation = re.match(r"\s*", lines[line] if line < len(lines) else "")
    if indentation and "\t" in indentation[0]:
        return recipe_error(path, "a tab in the indentation; use spaces", locate(line + 1))
    clauses = [error.problem or "this is not YAML"]
    if clauses[0].startswith("but ") and error.context:
        clauses.insert(0, error.context)
    return recipe_error(path, f"{', '.join(clauses)}, column {column + 1}", locate(line + 1))


class _Converter:
    """Converts the nodes of PyYAML of one document to `Node`s with source locations."""

    def __init__(self, locate: Callable[[int], SourceLocation]) -> None:
        self.locate = locate
        self.left = _MAX_VALUES

    def node(self, node: yaml.Node, path: FieldPath, location: SourceLocation, around: frozenset[int]) -> Node:
        """Converts a node. Args: around: `id`s of the nodes around it, in which an alias to one of them is an endless loop."""
        self.left -= 1
        if self.left < 0:
            raise recipe_error(path, f"aliases make more than {_MAX_VALUES} values; write fewer", location)
        if id(node) in around:
            raise recipe_error(path, "an alias stands inside its own anchor; write the value out", location)
        inside = around | {id(node)}
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
            return Node(self.mapping(node, path, inside), location)
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
            entries = (self.node(entry, (*path, i), self._line(entry), inside) for i, entry in enumerate(node.value))
            return Node(list(entries), location)
        if isinstance(node, yaml.ScalarNode) and node.tag in _CONVERSIONS:
            return Node(self.scalar(node, path, location), location)
        tag = f"!!{node.tag.removeprefix(_TAG)}" if node.tag.startswith(_TAG) else node.tag
        raise recipe_error(path, f"the tag {tag} is not read here; leave it out", location)

    def mapping(self, node: yaml.MappingNode, path: FieldPath, inside: frozenset[int]) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        for key, value in node.value:
            location = self._line(key)
            if not isinstance(key, yaml.ScalarNode):
                raise recipe_error(path, "a key is a list or a mapping; give a name", location)
            if key.tag != f"{_TAG}str":
                raise recipe_error(path, f"the key {key.value or 'null'} is not text; write it in quotes", location)
            name = key.value
            if name == "<<" and key.style is None:
                raise recipe_error(path, "merge keys (<<) are not read; use extends, or write the fields out", location)
            if name in entries:
                lines = f", on lines {first.line} and {location.line}" if (first := entries[name].location) and first.line else ""
                raise recipe_error((*path, name), f"given twice{lines}; keep one", location)
            entries[name] = self.node(value, (*path, name), location, inside)
        return entries

    def scalar(self, node: yaml.ScalarNode, path: FieldPath, location: SourceLocation) -> object:
        pattern = SCALARS.get(node.tag)
        kind = node.tag.removeprefix(_TAG)
        if pattern and not pattern.match(node.value):
            raise recipe_error(path, f"{node.value!r} does not fit the tag !!{kind}; leave the tag out", location)
        try:
            return _CONVERSIONS[node.tag](node.value)
        except ValueError:
            # Python bounds the digits of an integer.
            raise recipe_error(path, f"an integer of {len(node.value)} digits; give a shorter number", location) from None

    def _line(self, node: yaml.Node) -> SourceLocation:
        return self.locate(node.start_mark.line + 1)


_MAX_INLINE = 80  # characters of a list of plain values that is written on one line


class _Dumper(yaml.SafeDumper):
    """Block style with indented lists, without anchors; quotes text that YAML 1.1 or 1.2 would read as a number."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


for _tag, _pattern in SCALARS.items():
    _Dumper.add_implicit_resolver(_tag, _pattern, None)


def _represent_list(dumper: _Dumper, entries: list[Any]) -> yaml.SequenceNode:
    plain = not any(isinstance(entry, (dict, list)) for entry in entries)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", entries, flow_style=plain and len(repr(entries)) <= _MAX_INLINE)


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    # Single quotes lose Unicode's line breaks; double quotes escape them.
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


_Dumper.add_representer(list, _represent_list)
_Dumper.add_representer(str, _represent_text)


def to_yaml(recipe: BaseModel) -> str:
    """A recipe as YAML with all fields and the `type` of every part, in the order of declaration."""
    return yaml.dump(recipe.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**9)
