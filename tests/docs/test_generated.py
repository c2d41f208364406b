"""What is generated in the documentation is what the sources say now."""

import subprocess
import sys
from html import unescape

import pytest
from generate import COMMAND, between, outputs, stale
from package_sources import ROOT
from part_tables import MAX_NAMES, compact, page
from room_drawing import ROOMS, arrows, cycles, drawing, reachable, without_shortcuts

from etsdm.registry import REGISTRIES


def test_nothing_generated_is_stale():
    assert stale() == [], f"run `{COMMAND}`"


def test_checking_writes_nothing(tmp_path):
    before = {path: path.read_text() for path in outputs()}
    script = ROOT / "docs" / "scripts" / "generate.py"
    done = subprocess.run([sys.executable, str(script), "--check"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert {path: path.read_text() for path in before} == before


def test_only_the_text_between_the_markers_changes():
    assert between("a\n<x>\nold\n</x>\nb\n", "<x>", "</x>", "new\n") == "a\n<x>\nnew\n</x>\nb\n"
    with pytest.raises(ValueError, match=r"put back '<x>' and '</x>'"):
        between("a\nb\n", "<x>", "</x>", "new\n")


def test_every_part_has_a_row_with_its_description():
    sections = dict(section.split("\n", 1) for section in page().split("\n## ")[1:])
    assert list(sections) == list(REGISTRIES)
    for key, registry in REGISTRIES.items():
        for name in registry.names():
            description = registry.describe(name).replace("|", "\\|")
            assert f"\n| `{name}` | {description} |\n" in unescape(sections[key])


def test_the_compact_table_names_every_part_or_counts_presets():
    rows = dict(row.strip("| ").split(" | ") for row in compact().splitlines()[2:])
    for key, registry in REGISTRIES.items():
        names = registry.names() if len(registry.names()) <= MAX_NAMES else list(registry.classes())
        assert [name for name in names if f"`{name}`" not in rows[f"`{key}`"].split()] == []


def test_a_cycle_is_found_with_all_that_is_in_it():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}, "e": {"f"}, "f": set()}
    assert cycles(graph) == {frozenset("abc")}


def test_an_arrow_that_a_longer_way_implies_is_not_drawn():
    assert without_shortcuts({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == {"a": {"b"}, "b": {"c"}, "c": set()}


def test_the_drawing_leads_wherever_the_imports_lead():
    shown = {line.split()[1]: set(line.partition("-->")[2].split()) for line in drawing().splitlines()[1:-1]}
    assert sorted(shown) == sorted(ROOMS)
    for name, ends in arrows().items():
        assert ends <= reachable(shown, name)
