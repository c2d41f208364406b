"""The API reference renders every public name once, and nothing that is not public."""

import re

import pytest
import yaml
from package_sources import ROOT, TREES, definitions, home, public_names, room

PAGES = sorted((ROOT / "docs").rglob("*.md"))
DIRECTIVE = re.compile(r"^::: ([\w.]+)\n((?:    .*\n|\n)*)", re.MULTILINE)
ROOMS = sorted({room(module) for module in TREES} - {None})
PUBLIC = {module: names for name in ROOMS for module, names in public_names(f"etsdm.{name}").items()}


def rendered():
    """The home of every object that a page renders, and the page."""
    found = {}
    for page in PAGES:
        for target, block in DIRECTIVE.findall(page.read_text() + "\n"):
            if (yaml.safe_load(block) or {}).get("options", {}).get("members", True) is False:
                assert target in TREES, f"{page.name}: there is no module {target}"
                continue  # the docstring alone
            where = home(*target.rsplit(".", 1))
            assert where not in found, f"{'.'.join(where)} is rendered in {found[where].name} and in {page.name}; keep one"
            found[where] = page
    return found


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_is_in_the_reference(module):
    missing = [name for name in PUBLIC[module] if home(module, name) not in rendered()]
    assert not missing


def test_the_reference_renders_public_names_only():
    public = {home(module, name) for module, names in PUBLIC.items() for name in names}
    assert sorted(rendered().keys() - public) == []


def test_every_public_name_is_defined():
    for module, names in {"etsdm": public_names("etsdm")["etsdm"], **PUBLIC}.items():
        for name in names:
            where, inner = home(module, name)
            assert inner in definitions(where), f"{module}.{name}"


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text()
    for page in PAGES:
        assert str(page.relative_to(ROOT / "docs")) in navigation
