"""Every relative link of the README and the documentation leads somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted((ROOT / "docs").rglob("*.md"))
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
SNIPPET = re.compile(r'^--8<-- "(.+)"$', re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_resolves(page):
    text = page.read_text()
    targets = [link.partition("#")[0] for link in LINK.findall(FENCE.sub("", text)) if "://" not in link]
    files = [page.parent / target for target in targets if target] + [ROOT / name for name in SNIPPET.findall(text)]
    missing = [str(file) for file in files if not file.exists()]
    assert not missing


def test_the_documentation_links_to_nothing_outside_its_folder():
    # What mkdocs does not copy is a dead link in the built pages.
    for page in (ROOT / "docs").rglob("*.md"):
        for link in LINK.findall(FENCE.sub("", page.read_text())):
            if "://" not in link:
                assert (page.parent / link.partition("#")[0]).resolve().is_relative_to(ROOT / "docs"), f"{page}: {link}"
