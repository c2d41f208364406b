"""Tables of the registered parts, the data of `etsdm parts --json`, as Markdown."""

from etsdm.registry import REGISTRIES, Registry

MAX_NAMES = 30  # of a registry with more, the README counts the presets and does not list them


def built_in(registry: Registry) -> list[str]:
    """Names of the parts that come with etsdm, without the plug-ins that happen to be installed."""
    return [name for name in registry.loadable() if registry[name].__module__.startswith("etsdm.")]


def compact() -> str:
    """One row a registry: its names."""
    rows = ["| registry | parts |", "|---|---|"]
    for key, registry in REGISTRIES.items():
        names = built_in(registry)
        presets = [name for name in names if registry.defaults(name)]
        if len(names) > MAX_NAMES and presets:
            listed = [f"`{name}`" for name in names if name not in presets] + [f"and {len(presets)} presets"]
        else:
            listed = [f"`{name}`" for name in names]
        rows.append(f"| `{key}` | {' '.join(listed)} |")
    return "\n".join(rows) + "\n"


def page() -> str:
    """A page with one table a registry: name and description."""
    lines = [
        "# All parts",
        "",
        "The built-in parts by registry, as `etsdm parts` lists them. A recipe names a part by its `type`. `etsdm parts REGISTRY NAME`",
        "prints the fields of a part with their defaults. [Parts](concepts/parts.md) explains registries and how to add to them.",
    ]
    for key, registry in REGISTRIES.items():
        lines += ["", f"## {key}", "", "| name | description |", "|---|---|"]
        lines += [f"| `{name}` | {_cell(registry.describe(name))} |" for name in built_in(registry)]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
