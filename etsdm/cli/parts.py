"""`etsdm parts`: the registered parts and their fields."""

from __future__ import annotations

import fnmatch
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from etsdm.cli.options import JsonOption, is_pattern

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.table import Table

    from etsdm.backbones.summary import Summary

__all__ = ["parts"]


def parts(
    registry: Annotated[str | None, typer.Argument(help="Registry, for example schedules, or a pattern such as 'sam*'.")] = None,
    name: Annotated[str | None, typer.Argument(help="Part, to list its fields, or a pattern such as 'dpm*'.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the registered parts; with a name, the fields of one part and the cost of a backbone."""
    from etsdm.errors import RegistryError
    from etsdm.registry import REGISTRIES, suggestion

    chosen = fnmatch.filter(REGISTRIES, registry or "*")
    if not chosen:
        raise RegistryError(f"unknown registry {registry!r}; {suggestion(str(registry), REGISTRIES, 'known')}")
    if registry in REGISTRIES and name is not None and not is_pattern(name):
        _one(registry, name, as_json)
        return
    named = {key: fnmatch.filter(REGISTRIES[key].loadable(), name or "*") for key in chosen}
    if not any(named.values()):
        raise RegistryError(f"no part of {', '.join(chosen)} has a name like {name!r}; list them with etsdm parts {chosen[0]}")
    listed = {key: {entry: REGISTRIES[key].describe(entry) for entry in entries} for key, entries in named.items() if entries}
    if as_json:
        typer.echo(json.dumps(listed, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    for key, entries in listed.items():
        table = Table(title=key, title_justify="left", show_header=False)
        for entry, description in entries.items():
            table.add_row(entry, description)
        Console(markup=False, emoji=False).print(table)


def _one(registry: str, name: str, as_json: bool) -> None:
    from etsdm.registry import REGISTRIES

    family = REGISTRIES[registry]
    part, preset = family[name], family.defaults(name)
    schema = part.model_json_schema()
    fields: dict[str, dict[str, Any]] = {}
    for key, field in part.model_fields.items():
        default = preset.get(key, field.get_default(call_default_factory=True))
        spec = schema["properties"][key]
        fields[key] = {
            "default": "required" if field.is_required() and key not in preset else _plain(default),
            "type": _type(spec, schema.get("$defs", {})),
            "about": spec.get("description", ""),
        }
    # A backbone has a size once all its fields are set.
    complete = registry == "backbones" and all(facts["default"] != "required" for facts in fields.values())
    summary = family.create(name).summary() if complete else None
    if as_json:
        facts_of_part = {"name": name, "type": part.type_name, "about": family.describe(name), "fields": fields}
        typer.echo(json.dumps({**facts_of_part, "summary": summary.model_dump(mode="json")} if summary else facts_of_part, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{registry}: {name}", caption=family.describe(name), title_justify="left", caption_justify="left")
    for heading in ("field", "type", "default", ""):
        table.add_column(heading)
    for key, facts in fields.items():
        default = json.dumps(facts["default"]) if facts["default"] != "required" else "required"
        table.add_row(key, facts["type"], default, facts["about"])
    console = Console(markup=False, emoji=False)
    console.print(table)
    if summary:
        console.print()
        console.print(_summary_table(summary))


def _type(spec: Mapping[str, Any], named: Mapping[str, Any]) -> str:
    """A JSON schema of a field in a few words: the registry of a part, the values of a choice, or types with bars between them."""
    if "$ref" in spec:
        return _type(named[spec["$ref"].rpartition("/")[2]], named)
    if registry := spec.get("x-etsdm-registry"):
        return str(registry)
    if choices := spec.get("enum") or ([spec["const"]] if "const" in spec else None):
        return " | ".join(json.dumps(choice) for choice in choices)
    if variants := spec.get("anyOf") or spec.get("oneOf"):
        return " | ".join(dict.fromkeys(_type(variant, named) for variant in variants))
    if spec.get("type") == "array":
        entries = spec.get("prefixItems") or [spec.get("items", {})]
        return f"list of {' | '.join(dict.fromkeys(_type(entry, named) for entry in entries)) or 'values'}"
    return str(spec.get("type", ""))


def _summary_table(summary: Summary) -> Table:
    from rich.table import Table

    from etsdm.cli.display import scaled

    table = Table(
        title=f"{scaled(summary.weights)}B of weights in float32",
        caption="FLOPs of one image forward, a multiply-add being two; activations: float32 values that one image keeps for the backward "
        f"pass, with gradient checkpointing {scaled(summary.checkpointed + summary.peak_recompute)}B at the most",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("level")
    for heading in ("blocks", "parameters", "FLOPs", "activations"):
        table.add_column(heading, justify="right")
    for level in summary.levels:
        row = str(level.blocks), f"{level.parameters:,}", scaled(level.flops), f"{scaled(level.activations)}B"
        table.add_row(_resolution(level.size), *row)
    table.add_section()
    blocks = sum(level.blocks for level in summary.levels)
    table.add_row("all", str(blocks), f"{summary.parameters:,}", scaled(summary.flops), f"{scaled(summary.activations)}B")
    return table


def _resolution(size: tuple[int, ...]) -> str:
    if len(size) == 1:
        return f"{size[0]} tokens"
    return "x".join(str(length) for length in size) or "vectors"


def _plain(value: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(Any).dump_python(value, mode="json")
