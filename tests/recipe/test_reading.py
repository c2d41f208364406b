import os

import pytest

from etsdm.errors import RecipeError
from etsdm.recipe.arms import arm_document
from etsdm.recipe.files import read
from etsdm.recipe.locations import SourceLocation


def write(folder, **files):
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")


def refused(path):
    with pytest.raises(RecipeError) as error:
        read(path)
    return str(error.value)


def test_a_recipe_is_read_with_its_lines(tmp_path):
    write(tmp_path, a="# a recipe\nname: größer\nmodel:\n  schedule: linear\n")
    file = str(tmp_path / "a.yaml")
    document = read(file)
    assert document.data == {"name": "größer", "model": {"schedule": "linear"}}
    assert document.locations == {
        (): SourceLocation(file, 2),
        ("name",): SourceLocation(file, 2),
        ("model",): SourceLocation(file, 3),
        ("model", "schedule"): SourceLocation(file, 4),
    }


def test_a_byte_order_mark_is_skipped(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read(tmp_path / "a.yaml").data == {"a": 1}


def test_a_missing_file_is_refused_with_the_near_ones(tmp_path):
    write(tmp_path, digits="a: 1")
    (tmp_path / "notes.txt").touch()
    assert refused(tmp_path / "digts.yaml") == f"no file {tmp_path}/digts.yaml; did you mean 'digits.yaml'?"
    assert refused(tmp_path / "x") == f"no file {tmp_path}/x; recipes in that folder: digits.yaml"
    assert refused(tmp_path / "no" / "x.yaml") == f"no file {tmp_path}/no/x.yaml; there is no folder {tmp_path}/no"


def test_a_folder_is_refused(tmp_path):
    assert refused(tmp_path) == f"{tmp_path} is a folder; give a file in it"


def test_a_file_that_is_not_utf8_is_refused(tmp_path):
    (tmp_path / "a.yaml").write_bytes("a: 1\nb: größer\n".encode("latin-1"))
    assert refused(tmp_path / "a.yaml") == f"byte 0xf6 is not UTF-8; save the file as UTF-8 ({tmp_path}/a.yaml:2)"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_refused(tmp_path):
    write(tmp_path, a="a: 1\n")
    (tmp_path / "a.yaml").chmod(0)
    assert refused(tmp_path / "a.yaml") == f"{tmp_path}/a.yaml cannot be read: permission denied"


def test_an_empty_file_is_refused(tmp_path):
    write(tmp_path, a="# to be written\n")
    assert refused(tmp_path / "a.yaml") == f"{tmp_path}/a.yaml is empty; write the fields of a recipe"


def test_a_file_that_holds_no_mapping_is_refused(tmp_path):
    write(tmp_path, a="\n- linear\n", b="linear\n")
    assert refused(tmp_path / "a.yaml") == f"found a list; give a mapping of fields ({tmp_path}/a.yaml:2)"
    assert refused(tmp_path / "b.yaml") == f"found text; give a mapping of fields ({tmp_path}/b.yaml:1)"


def test_wrong_syntax_names_the_file(tmp_path):
    write(tmp_path, a="a:\n\tb: 1\n")
    assert refused(tmp_path / "a.yaml") == f"a tab in the indentation; use spaces ({tmp_path}/a.yaml:2)"


def test_a_file_wins_over_what_it_extends(tmp_path):
    write(tmp_path, base="a: 1\nm: {x: 1, y: 1}\n", child="m:\n  y: 2\nextends: base.yaml\n")
    document = read(tmp_path / "child.yaml")
    assert document.data == {"a": 1, "m": {"x": 1, "y": 2}}
    assert document.location_of(("m", "x")) == SourceLocation(f"{tmp_path}/base.yaml", 2)
    assert document.location_of(("m", "y")) == SourceLocation(f"{tmp_path}/child.yaml", 2)
    # A field missing from a mapping of both is to be added in the file that was asked for.
    assert document.location_of(("m", "z")) == SourceLocation(f"{tmp_path}/child.yaml", 1)
    assert document.location_of(("z",)) == SourceLocation(f"{tmp_path}/child.yaml", 1)


def test_of_several_the_later_wins(tmp_path):
    write(tmp_path, a="x: 1\ny: 1\nz: 1\n", b="y: 2\nz: 2\n", c="extends: [a.yaml, b.yaml]\nz: 3\n")
    assert read(tmp_path / "c.yaml").data == {"x": 1, "y": 2, "z": 3}


def test_extended_files_are_relative_to_the_file_that_says_so(tmp_path, monkeypatch):
    (tmp_path / "parts").mkdir()
    write(tmp_path, root="a: 1\n", child="extends: parts/middle.yaml\n")
    write(tmp_path / "parts", middle="extends: ../root.yaml\nb: 2\n")
    monkeypatch.chdir(tmp_path)
    document = read("child.yaml")
    assert document.data == {"a": 1, "b": 2}
    assert document.location_of(("a",)) == SourceLocation("root.yaml", 1)


def test_two_files_may_extend_the_same(tmp_path):
    write(tmp_path, root="a: 1\n", b="extends: root.yaml\nb: 2\n", c="extends: root.yaml\nc: 3\n", d="extends: [b.yaml, c.yaml]\n")
    assert read(tmp_path / "d.yaml").data == {"a": 1, "b": 2, "c": 3}


def test_arms_are_inherited_and_changed_in_either_spelling(tmp_path):
    write(
        tmp_path,
        base="m: {n: 1}\narms:\n  baseline: {m.n: 2}\n  e-tsdm: {m: {type: e-tsdm, n: 3}}\n  wide: {m.n: 4}\n",
        child="extends: base.yaml\narms:\n  e-tsdm: {m.n: 5}\n  wide:\n  new: {m.n: 6}\n",
    )
    document = read(tmp_path / "child.yaml")
    assert {arm: arm_document(document, arm).data["m"] for arm in document.data["arms"]} == {
        "baseline": {"n": 2},
        "e-tsdm": {"n": 5, "type": "e-tsdm"},
        "wide": {"n": 1},
        "new": {"n": 6},
    }


def test_a_missing_extended_file_is_refused_where_it_is_named(tmp_path):
    write(tmp_path, base="a: 1\n", a="b: 1\nextends: bse.yaml\n", b="extends:\n  - base.yaml\n  - .\n")
    assert refused(tmp_path / "a.yaml") == f"extends: no file {tmp_path}/bse.yaml; did you mean 'base.yaml'? ({tmp_path}/a.yaml:2)"
    assert refused(tmp_path / "b.yaml") == f"extends.1: {tmp_path} is a folder; give a file in it ({tmp_path}/b.yaml:3)"


def test_extending_what_is_no_file_name_is_refused(tmp_path):
    write(tmp_path, a="extends: 5\n", b="extends: [{a: 1}]\n", c="extends:\n")
    assert refused(tmp_path / "a.yaml") == f"extends: found 5; give a file or a list of files ({tmp_path}/a.yaml:1)"
    assert refused(tmp_path / "b.yaml") == f"extends.0: found {{'a': 1}}; give a file or a list of files ({tmp_path}/b.yaml:1)"
    assert refused(tmp_path / "c.yaml") == f"extends: found None; give a file or a list of files ({tmp_path}/c.yaml:1)"


def test_a_circle_of_files_is_refused_with_its_links(tmp_path):
    write(tmp_path, a="extends: b.yaml\n", b="x: 1\nextends: [c.yaml]\n", c="extends: a.yaml\n", d="extends: ./d.yaml\n")
    a, b, c, d = (f"{tmp_path}/{name}.yaml" for name in "abcd")
    assert refused(tmp_path / "a.yaml") == f"extends: a recipe extends itself: {a} -> {b} -> {c} -> {a}; take one of these out ({c}:1)"
    assert refused(tmp_path / "d.yaml") == f"extends: a recipe extends itself: {d} -> {d}; take one of these out ({d}:1)"
