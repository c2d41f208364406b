"""Recipes as YAML text, every field written out, to be read back equal by YAML 1.1 and 1.2 alike."""

from __future__ import annotations

from typing import Any

import yaml
from pydantic import BaseModel

from etsdm.recipe.yaml import SCALARS

__all__ = ["to_yaml"]

# A list of plain values stands on one line up to this many characters.
_SHORT = 80


class _Dumper(yaml.SafeDumper):
    """Block style with indented lists and without anchors. It quotes text that either version of YAML takes for a number."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


for _tag, _pattern in SCALARS.items():
    _Dumper.add_implicit_resolver(_tag, _pattern, None)


def _represent_list(dumper: _Dumper, entries: list[Any]) -> yaml.SequenceNode:
    plain = not any(isinstance(entry, (dict, list)) for entry in entries)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", entries, flow_style=plain and len(repr(entries)) <= _SHORT)


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    # Unicode's line breaks are lost in single quotes; in double quotes all of them are escapes.
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


_Dumper.add_representer(list, _represent_list)
_Dumper.add_representer(str, _represent_text)


def to_yaml(recipe: BaseModel) -> str:
    """The fully resolved recipe: parts with their `type` and all fields, in the order in which they are declared."""
    return yaml.dump(recipe.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**9)
