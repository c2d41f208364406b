"""What is installed: the dependencies are those that the code imports, and the wheel holds every file of the package."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from package_sources import PACKAGE, ROOT, TREES

import etsdm

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
WHEEL = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
DEVELOPMENT = {"docs", "dev"}  # extras that the package itself does not import


def normal(requirement):
    """A distribution's name without version, extras or marker, in the spelling of PEP 503."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()


def third_party():
    """The distributions that the package imports, wherever the imports stand, by name of the first module that does."""
    modules = {}
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            else:
                continue
            for name in names:
                modules.setdefault(name.partition(".")[0], module)
    known = packages_distributions()
    own = {*sys.stdlib_module_names, "etsdm"}
    return {normal(known.get(name, [name])[0]): module for name, module in modules.items() if name not in own}


def test_dependencies_are_those_that_the_code_imports():
    core = {normal(line) for line in PYPROJECT["project"]["dependencies"]}
    extras = {name: lines for name, lines in PYPROJECT["project"]["optional-dependencies"].items() if name not in DEVELOPMENT}
    optional = {normal(line) for lines in extras.values() for line in lines}
    imported = third_party()
    # pydantic documents imports from its own core, and pins its version.
    assert "pydantic-core" in {normal(line) for line in requires("pydantic")}
    missing = {name: module for name, module in imported.items() if name not in core | optional | {"pydantic-core"}}
    assert missing == {}, "add them to the dependencies in pyproject.toml"
    assert core - set(imported) == set(), "nothing imports these; remove them from the dependencies in pyproject.toml"


def test_the_package_is_typed_for_those_who_use_it():
    assert (PACKAGE / "py.typed").read_text() == ""
    assert WHEEL["packages"] == ["etsdm"]


def test_no_file_of_the_package_is_ignored():
    # The wheel leaves out what .gitignore names.
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    files = [str(path) for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    ignored = subprocess.run(["git", "check-ignore", "--no-index", *files], cwd=ROOT, capture_output=True, text=True)
    assert (ignored.returncode, ignored.stdout) == (1, "")
    assert "exclude" not in WHEEL


def test_packages_are_attributes_and_nothing_private_is():
    listed = {path.stem for path in Path(etsdm.__file__).parent.iterdir() if path.is_dir() or path.suffix == ".py"}
    assert {name for name in listed if not name.startswith("_")} <= set(dir(etsdm))
    program = "import etsdm; print(etsdm.schedules.Linear.__name__, hasattr(etsdm, 'nothing'), hasattr(etsdm, '__main__'))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "Linear False False\n"


def test_works_of_others_are_shipped_with_their_notice():
    # Whoever has the wheel or the source distribution has the images, and the licences that their authors ask for.
    assert PYPROJECT["project"]["license-files"] == ["LICENSE", "NOTICE"]
    assert {"LICENSE", "NOTICE", "etsdm"} <= set(PYPROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"])
    notice, licence = ((ROOT / name).read_text() for name in ("NOTICE", "LICENSE"))
    shipped = sorted(path.name for path in (PACKAGE / "data" / "assets").iterdir())
    assert shipped == sorted(re.findall(r"^(\S+\.\w+)$", notice, re.MULTILINE)), "name every file of etsdm/data/assets in NOTICE"
    for words in ("Noto Emoji, Copyright Google", "Copyright (c) 2013 Cal Henderson", "shall be included in"):
        assert words in notice
    assert "Apache License\n                           Version 2.0" in licence
