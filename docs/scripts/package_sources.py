"""The package as text: its modules, their imports, docstrings and public names, from the source files alone."""

import ast
from functools import cache
from importlib.util import resolve_name
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "etsdm"


def module_name(path: Path) -> str:
    """`etsdm.schedules.base` for its file; a package has the name of its `__init__.py`."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TREES = {module_name(path): ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}
PACKAGES = {module_name(path) for path in PACKAGE.rglob("__init__.py")}


def dotted(node: ast.AST) -> str | None:
    """`a.b.c` for a chain of attributes, else None."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (head := dotted(node.value)):
        return f"{head}.{node.attr}"
    return None


def room(module: str) -> str | None:
    """The entry of `etsdm/` that a module belongs to; None for `etsdm` itself."""
    return module.split(".")[1] if "." in module else None


def _import_from(module: str, node: ast.ImportFrom) -> str:
    package = module if module in PACKAGES else module.rpartition(".")[0]
    return resolve_name("." * node.level + (node.module or ""), package) if node.level else node.module or ""


@cache
def imports(module: str) -> frozenset[str]:
    """The modules of this package that a module imports: anywhere in the file, in functions and under TYPE_CHECKING too."""
    found = set()
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.partition(".")[0] == "etsdm"}
        elif isinstance(node, ast.ImportFrom):
            source = _import_from(module, node)
            if source.partition(".")[0] == "etsdm":
                names = {f"{source}.{alias.name}" for alias in node.names}
                found |= {name if name in TREES or source == "etsdm" else source for name in names}
    return frozenset(found)


def summary(module: str) -> str:
    """First line of a module's docstring."""
    return (ast.get_docstring(TREES[module]) or "").partition("\n")[0]


def exported(module: str) -> list[str]:
    """The names in a module's `__all__`; empty without one."""
    for node in TREES[module].body:
        if isinstance(node, ast.Assign) and [getattr(target, "id", None) for target in node.targets] == ["__all__"]:
            return list(ast.literal_eval(node.value))
    return []


@cache
def _imported_names(module: str) -> dict[str, tuple[str, str]]:
    found = [node for node in ast.walk(TREES[module]) if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name: (_import_from(module, node), alias.name) for node in found for alias in node.names}


def home(module: str, name: str) -> tuple[str, str]:
    """The module that defines a name, and the name there; re-exports are followed."""
    while module in TREES and name in _imported_names(module):
        module, name = _imported_names(module)[name]
    return module, name


@cache
def definitions(module: str) -> dict[str, ast.stmt]:
    """The statements that define the names of a module, in the order of the file."""
    found: dict[str, ast.stmt] = {}
    for node in TREES[module].body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found.update({target.id: node for target in targets if isinstance(target, ast.Name)})
    return found


def public_names(module: str) -> dict[str, list[str]]:
    """The public names below a room or package, by the module whose `__all__` has them.

    A package's names are those of its own `__all__`, and packages inside it with an `__all__` follow; without one, those of its modules.
    """
    if module not in PACKAGES:
        return {module: exported(module)} if exported(module) else {}
    inside = [name for name in TREES if name.rpartition(".")[0] == module]
    found = {module: exported(module)} if exported(module) else {}
    for name in inside:
        if not exported(module) or (name in PACKAGES and exported(name)):
            found.update(public_names(name))
    return found
