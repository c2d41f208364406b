"""Writes what is generated in the documentation: python docs/scripts/generate.py [--check]

That are the tables and drawings between the marker lines `rooms`, `parts` and so on of CONTRIBUTING.md, README.md and mkdocs.yml, and
the whole of docs/parts.md and docs/reference. With --check nothing is written, and the files that are stale are named.
"""

import sys
from pathlib import Path

from package_sources import ROOT

sys.path.insert(0, str(ROOT))  # the package of this checkout, wherever another is installed

import part_tables
import reference_pages
import room_drawing

COMMAND = "python docs/scripts/generate.py"
REFERENCE = ROOT / "docs" / "reference"


def between(text: str, opening: str, closing: str, new: str) -> str:
    """The text with new lines between two marker lines. Raises: ValueError if a marker is not there."""
    before, opened, rest = text.partition(f"{opening}\n")
    _, closed, after = rest.partition(f"{closing}\n")
    if not (opened and closed):
        raise ValueError(f"a marker line is not there; put back {opening!r} and {closing!r}")
    return f"{before}{opened}{new}{closed}{after}"


def _markdown(file: str, **parts: str) -> str:
    text = (ROOT / file).read_text()
    for name, new in parts.items():
        text = between(text, f"<!-- {name}: written by `{COMMAND}` -->", f"<!-- end of {name} -->", f"\n{new}\n")
    return text


def outputs() -> dict[Path, str]:
    """What every generated file has to hold."""
    notice = f"<!-- Written by `{COMMAND}` -->\n\n"
    navigation = (ROOT / "mkdocs.yml").read_text()
    navigation = between(navigation, f"      # reference: written by `{COMMAND}`", "      # end of reference", reference_pages.navigation())
    return {
        ROOT / "CONTRIBUTING.md": _markdown("CONTRIBUTING.md", rooms=room_drawing.table(), arrows=room_drawing.drawing()),
        ROOT / "README.md": _markdown("README.md", parts=part_tables.compact()),
        ROOT / "mkdocs.yml": navigation,
        ROOT / "docs" / "parts.md": notice + part_tables.page(),
        **{REFERENCE / file: notice + text for file, text in reference_pages.pages().items()},
    }


def stale() -> list[str]:
    """Names of the files that are not what `outputs` says, pages of rooms that are gone among them."""
    wanted = outputs()
    changed = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    return sorted(str(path.relative_to(ROOT)) for path in [*changed, *(set(REFERENCE.glob("*.md")) - set(wanted))])


def write() -> None:
    """Writes every generated file, and removes the pages of rooms that are gone."""
    wanted = outputs()
    REFERENCE.mkdir(exist_ok=True)
    for path in set(REFERENCE.glob("*.md")) - set(wanted):
        path.unlink()
    for path, text in wanted.items():
        path.write_text(text)


def main(arguments: list[str]) -> int:
    """Returns: the exit code, 1 if something is stale."""
    found = stale()
    if arguments == ["--check"]:
        sys.stderr.writelines(f"stale: {name}\n" for name in found)
        return int(bool(found))
    if arguments:
        sys.stderr.write(f"found {' '.join(arguments)}; give nothing, or --check\n")
        return 2
    write()
    sys.stdout.writelines(f"written: {name}\n" for name in found)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
