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
from etsdm.recipe.limits import MAX_BYTES, MAX_DEPTH, MAX_VALUES, TOO_DEEP, TOO_MANY, Budget, check_key, check_scalar
from etsdm.recipe.locations import FieldPath, SourceLocation, recipe_error
from etsdm.recipe.tree import Node
from etsdm.registry import cut, quoted
from etsdm.registry.paths import ABSOLUTE_PATHS

__all__ = ["compose", "to_yaml"]

_TAG = "tag:yaml.org,2002:"


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
    """PyYAML's composer with other scalars, and with limits that stop it early: it is slow, and recurses."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 (PyYAML's own name, without its rules of YAML 1.1)

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._values = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._values += 1
        self._depth += 1
        if self._depth > MAX_DEPTH + 1 or self._values > 2 * MAX_VALUES:  # keys are nodes, too
            problem = TOO_DEEP if self._depth > MAX_DEPTH + 1 else TOO_MANY
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=self.peek_event().start_mark)  # type: ignore[no-untyped-call]
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


for _tag, _pattern in SCALARS.items():
    _Composer.add_implicit_resolver(_tag, _pattern, None)


def compose(text: str, locate: Callable[[int], SourceLocation], path: FieldPath = (), budget: Budget | None = None) -> Node | None:
    """Parses one YAML document.

    Args:
        text: the document.
        locate: maps a line, from 1, to its source location.
        path: path of the document in the recipe, for messages.
        budget: of several documents together; a new one by default.

    Returns:
        The root node; None for a text without a value.

    Raises:
        RecipeError: invalid syntax, a duplicate key, a key that is not text, a tag outside the core schema, or more than the limits allow.
    """
    if len(text) > MAX_BYTES:
        raise recipe_error(path, f"a text of {len(text):,} characters; give {MAX_BYTES:,} or fewer", locate(1))
    try:
        root = _Composer(text).get_single_node()
        if root is None:
            return None
        return _Converter(locate, budget or Budget()).node(root, path, locate(root.start_mark.line + 1), frozenset())
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, text, locate, path) from None
    except yaml.reader.ReaderError as error:
        message = f"the character U+{ord(text[error.position]):04X} is not allowed; remove it"
        raise recipe_error(path, message, locate(text.count("\n", 0, error.position) + 1)) from None


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
    return recipe_error(path, f"{cut(', '.join(clauses), 100)}, column {column + 1}", locate(line + 1))


class _Converter:
    """Converts the nodes of PyYAML of one document to `Node`s with source locations."""

    def __init__(self, locate: Callable[[int], SourceLocation], budget: Budget) -> None:
        self.locate = locate
        self.budget = budget

    def node(self, node: yaml.Node, path: FieldPath, location: SourceLocation, around: frozenset[int]) -> Node:
        """Converts a node. Args: around: `id`s of the nodes around it, in which an alias to one of them is an endless loop."""
        self.budget.spend(path, location)
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
        raise recipe_error(path, f"the tag {cut(tag)} is not read here; leave it out", location)

    def mapping(self, node: yaml.MappingNode, path: FieldPath, inside: frozenset[int]) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        for key, value in node.value:
            location = self._line(key)
            if not isinstance(key, yaml.ScalarNode):
                raise recipe_error(path, "a key is a list or a mapping; give a name", location)
            if key.tag != f"{_TAG}str":
                raise recipe_error(path, f"the key {cut(key.value) or 'null'} is not text; write it in quotes", location)
            name = key.value
            check_key(name, path, location)
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
            raise recipe_error(path, f"{quoted(node.value)} does not fit the tag !!{kind}; leave the tag out", location)
        try:
            value = _CONVERSIONS[node.tag](node.value)
        except ValueError:
            # Python bounds the digits of an integer.
            raise recipe_error(path, f"an integer of {len(node.value):,} digits; give a shorter number", location) from None
        check_scalar(value, path, location)
        return value

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
    """A recipe as YAML with all fields and the `type` of every part, in the order of declaration; paths are absolute."""
    return yaml.dump(
        recipe.model_dump(mode="json", context=ABSOLUTE_PATHS), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**9
    )
