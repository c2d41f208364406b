"""Pages of the API reference, one a room, from the docstrings and the `__all__` of its packages and modules."""

import ast

from package_sources import TREES, definitions, exported, home, imports, public_names, room
from room_drawing import ROOMS, reachable

from etsdm.registry import REGISTRIES

DOCSTRING_ONLY = """    options:
      show_root_heading: false
      show_root_toc_entry: false
      members: false
"""


def title(name: str) -> str:
    """`condition_maps` as a heading."""
    return name.replace("_", " ").capitalize()


def file_name(name: str) -> str:
    """The page of a room, in docs/reference."""
    return f"{name.replace('_', '-')}.md"


def entrance_page() -> str:
    """The page of `etsdm` itself: each public name with the first line of its docstring, linked to where it is described."""
    rows = []
    for name in exported("etsdm"):
        module, inner = home("etsdm", name)
        node = definitions(module)[inner]
        first_line = (ast.get_docstring(node) or "").partition("\n")[0] if isinstance(node, ast.ClassDef | ast.FunctionDef) else ""
        rows.append(f"| [`etsdm.{name}`][{module}.{inner}] | {first_line} |")
    packages = "Packages are attributes too: `etsdm.schedules.Linear` is a class, `etsdm.registry.schedules` the registry that holds it."
    return "\n".join(["# etsdm", "", "::: etsdm", DOCSTRING_ONLY, "| name | description |", "|---|---|", *rows, "", packages, ""])


def room_page(name: str) -> str:
    """The page of one room: docstrings of its modules, each followed by the public names that it defines."""
    found = public_names(f"etsdm.{name}")
    lines = [f"# {title(name)}", ""]
    for key, registry in REGISTRIES.items():
        if room(registry.home) == name:
            lines += [f"[Parts](../parts.md#{key}) of the registry `etsdm.registry.{key}`.", ""]
    for package in dict.fromkeys([f"etsdm.{name}", *found]):
        if package != f"etsdm.{name}":
            lines += [f"## `{package}`", ""]
        lines += [f"::: {package}", DOCSTRING_ONLY]
        lines += _names_of(package, found.get(package, []), level=2 if package == f"etsdm.{name}" else 3)
    return "\n".join(lines)


def _names_of(package: str, names: list[str], level: int) -> list[str]:
    homes = {name: home(package, name) for name in names}
    lines = []
    elsewhere = {name: where for name, where in homes.items() if room(where[0]) != room(package)}
    if elsewhere:
        links = [f"[`{name}`][{module}.{inner}]" for name, (module, inner) in sorted(elsewhere.items())]
        lines += [f"Exported here, described elsewhere: {', '.join(links)}.", ""]
    for module in _in_reading_order({module for name, (module, _) in homes.items() if name not in elsewhere}):
        if module != package:
            lines += [f"::: {module}", DOCSTRING_ONLY]
        public = {inner: name for name, (where, inner) in homes.items() if where == module}
        for inner in definitions(module):
            if inner in public:
                lines += [f"::: {package}.{public[inner]}"]
                lines += ["    options:", f"      heading_level: {level}", ""] if level != 2 else [""]
    return lines


def _in_reading_order(modules: set[str]) -> list[str]:
    """What others build on comes first."""
    rooms = {room(module) for module in modules}
    graph = {module: {name for name in imports(module) if room(name) in rooms} for module in TREES if room(module) in rooms}
    return sorted(modules, key=lambda module: (len(reachable(graph, module)), module))


def pages() -> dict[str, str]:
    """Text by file name, for every room with public names."""
    names = sorted(name for name in ROOMS if public_names(f"etsdm.{name}") and name != "cli")
    return {"etsdm.md": entrance_page(), **{file_name(name): room_page(name) for name in names}}


def navigation() -> str:
    """The lines of `nav` in mkdocs.yml for these pages."""
    titles = {file: title(file.removesuffix(".md").replace("-", "_")) for file in pages()} | {"etsdm.md": "etsdm"}
    return "".join(f"      - {text}: reference/{file}\n" for file, text in titles.items())
