"""JSON schema of models with parts as fields, for editors and `etsdm recipe schema`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from etsdm.registry.part import FAMILY_KEY
from etsdm.registry.registry import Registry

__all__ = ["json_schema"]


def json_schema(model: type[BaseModel], registries: Mapping[str, Registry[Any]]) -> dict[str, Any]:
    """JSON schema of a model whose fields are parts, each registered part once under `$defs`.

    The union of a family has its registry's name as key; its options are the parts, the presets and, of parts without required
    fields, the bare names. Parts with parts as fields refer to these unions.

    Args:
        model: pydantic model with parts as fields.
        registries: registries by name.
    """
    schema = model.model_json_schema()
    definitions: dict[str, Any] = schema.setdefault("$defs", {})
    waiting = _families(schema)
    while waiting:
        registry = registries[waiting.pop()]
        bare: list[str] = []
        definitions[registry.name] = {"anyOf": [{"enum": bare}]}
        for name in registry.loadable():
            key = f"{registry.name}/{name}"
            part = _schema_of(registry, name)
            if part is None:
                continue
            definitions.update(part.pop("$defs", {}))
            properties = {"type": {"const": name}, **part.get("properties", {})}
            for field, value in registry.defaults(name).items():
                properties[field] = {**properties[field], "default": value}
            required = [field for field in part.get("required", []) if field not in registry.defaults(name)]
            definitions[key] = {
                **part,
                "title": name,
                "description": registry.describe(name),
                "properties": properties,
                "required": ["type", *required],
            }
            if not required:
                bare.append(name)
            definitions[registry.name]["anyOf"].append({"$ref": f"#/$defs/{_escape(key)}"})
        waiting |= {family for family in _families(definitions) if family not in definitions}
    linked: dict[str, Any] = _link(schema)
    return linked


def _schema_of(registry: Registry[Any], name: str) -> dict[str, Any] | None:
    """The schema of a part, None for a plug-in that has none."""
    part: type[BaseModel] = registry[name]
    try:
        return part.model_json_schema()
    except Exception as error:
        if not registry.is_plugin(name):
            raise
        origin = f"{part.__module__}.{part.__qualname__}"
        warnings.warn(f"{registry.noun} {name!r}: {origin} has no JSON schema: {error}; it is left out", stacklevel=3)
        return None


def _escape(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _families(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node[FAMILY_KEY]} if FAMILY_KEY in node else set()
        return own.union(*(_families(child) for child in node.values()))
    if isinstance(node, list):
        return set().union(*(_families(child) for child in node))
    return set()


def _link(node: Any) -> Any:
    if isinstance(node, dict):
        linked = {key: _link(child) for key, child in node.items()}
        if FAMILY_KEY in linked:
            linked["$ref"] = f"#/$defs/{linked.pop(FAMILY_KEY)}"
        return linked
    if isinstance(node, list):
        return [_link(child) for child in node]
    return node
