"""The API reference renders every public name, and nothing that is not public."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "etsdm"
PAGES = sorted((ROOT / "docs").rglob("*.md"))
DIRECTIVE = re.compile(r"^::: ([\w.]+)\n((?:    .*\n|\n)*)", re.MULTILINE)


def file_of(module):
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def tree_of(module):
    return ast.parse(file_of(module).read_text())


def exported(module):
    """The names in a module's `__all__`."""
    for node in tree_of(module).body:
        if isinstance(node, ast.Assign) and [getattr(t, "id", None) for t in node.targets] == ["__all__"]:
            return ast.literal_eval(node.value)
    return []


@cache
def imported(module):
    """Where the imported names of a module come from, `TYPE_CHECKING` blocks included."""
    imports = [node for node in ast.walk(tree_of(module)) if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name: (node.module, alias.name) for node in imports for alias in node.names}


def home_of(module, name):
    """The module that defines a public name, and the name there: re-exports are followed."""
    while name in imported(module):
        module, name = imported(module)[name]
    return f"{module}.{name}"


def public_modules():
    """Every package, and the modules beside them."""
    files = [*PACKAGE.glob("*.py"), *PACKAGE.glob("*/**/__init__.py")]
    modules = [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]
    return sorted(module for module in modules if exported(module))


def rendered():
    """The home of every object that a page renders, and the page."""
    found = {}
    for page in PAGES:
        for target, block in DIRECTIVE.findall(page.read_text() + "\n"):
            members = (yaml.safe_load(block) or {}).get("options", {}).get("members")
            module, _, name = target.rpartition(".")
            if name and file_of(target).exists() and members is not None:
                homes = [home_of(target, member) for member in members or []]
            else:
                homes = [home_of(module, name)]
            for home in homes:
                assert home not in found, f"{home} is rendered in {found[home].name} and in {page.name}; keep one"
                found[home] = page
    return found


@pytest.mark.parametrize("module", public_modules())
def test_every_public_name_is_in_the_reference(module):
    missing = [name for name in exported(module) if home_of(module, name) not in rendered()]
    assert not missing, f"{module}: add `::: {module}.<name>` to a page of docs/reference for {', '.join(missing)}"


def test_the_reference_renders_public_names_only():
    public = {home_of(module, name) for module in public_modules() for name in exported(module)}
    assert not rendered().keys() - public


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text()
    for page in PAGES:
        assert str(page.relative_to(ROOT / "docs")) in navigation
