"""Paths that are no recipe file: pipes, devices, large files, and files that extend many others."""

import os
import socket
import time
from pathlib import Path

import pytest

import etsdm
from etsdm.errors import RecipeError
from etsdm.recipe.files import read

PLAIN = "name: a\n"


def refused(file):
    began = time.process_time()
    with pytest.raises(RecipeError) as caught:
        read(file)
    assert time.process_time() - began < 60
    return str(caught.value)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.yaml")
    Path("link.yaml").symlink_to("pipe.yaml")
    Path("zero.yaml").symlink_to("/dev/zero")
    Path("large.yaml").write_bytes(b"#" * 300_000)
    with Path("sparse.yaml").open("wb") as file:
        file.truncate(10**12)
    Path("dir.yaml").mkdir()
    server = socket.socket(socket.AF_UNIX)
    server.bind("socket.yaml")
    server.close()
    return tmp_path


NO_FILES = [
    ("pipe.yaml", "named pipe"),
    ("link.yaml", "named pipe"),
    ("zero.yaml", "a device"),
    ("socket.yaml", "a socket"),
    ("dir.yaml", "is a folder"),
    ("/dev/zero", "a device"),
    ("/dev/stdin/x", "no file"),
    ("large.yaml", "more than 250,000 bytes"),
    ("sparse.yaml", "more than 250,000 bytes"),
    ("a" * 300, "300 characters"),
    ("a" * 100_000, "100,000 characters"),
    ("a\0b.yaml", "no file"),
]


@pytest.mark.parametrize(("name", "message"), NO_FILES)
def test_what_is_no_recipe_file_is_refused(folder, name, message):
    assert message in refused(Path(name))
    with pytest.raises(RecipeError) as caught:
        etsdm.build(name)
    expected = message if "\0" not in name and os.path.lexists(name[:200]) else "no "
    assert expected in str(caught.value)


@pytest.mark.parametrize(("name", "message"), [pair for pair in NO_FILES if "\0" not in pair[0] and len(pair[0]) < 1000])
def test_what_is_no_recipe_file_is_refused_in_extends(folder, name, message):
    Path("a.yaml").write_text(f"extends: {name}\n")
    assert message in refused(Path("a.yaml"))


def test_a_long_chain_is_refused(tmp_path):
    for i in range(200):
        (tmp_path / f"{i}.yaml").write_text(f"extends: {i + 1}.yaml\n")
    (tmp_path / "200.yaml").write_text(PLAIN)
    assert "more than 10 levels of files that extend files" in refused(tmp_path / "0.yaml")
    assert read(tmp_path / "190.yaml").data == {"name": "a"}


def test_many_files_are_refused(tmp_path):
    for i in range(100):
        (tmp_path / f"{i}.yaml").write_text(PLAIN)
    (tmp_path / "all.yaml").write_text(f"extends: [{', '.join(f'{i}.yaml' for i in range(100))}]\n")
    assert "50 files" in refused(tmp_path / "all.yaml")


def test_each_file_is_read_once(tmp_path, monkeypatch):
    # 3^9 paths lead from the first level to the last.
    for level in range(9):
        for k in range(3):
            bases = ", ".join(f"{level + 1}-{j}.yaml" for j in range(3))
            (tmp_path / f"{level}-{k}.yaml").write_text(f"extends: [{bases}]\nname: {level}-{k}\n")
    for k in range(3):
        (tmp_path / f"9-{k}.yaml").write_text(f"description: last {k}\n")
    opened = []
    true_open = os.open
    monkeypatch.setattr(os, "open", lambda path, *rest, **more: opened.append(str(path)) or true_open(path, *rest, **more))
    assert read(tmp_path / "0-0.yaml").data == {"name": "0-0", "description": "last 2"}
    assert len(opened) == len(set(opened)) == 28


def test_files_share_one_limit_of_bytes_and_of_values(tmp_path):
    for i in range(3):
        (tmp_path / f"bytes{i}.yaml").write_text("#" * 100_000 + f"\nname: a{i}")
        (tmp_path / f"values{i}.yaml").write_text(f"seeds: [{'1, ' * 4000}]")
    for kind, message in (("bytes", "250,000 bytes"), ("values", "10,000 values")):
        (tmp_path / "a.yaml").write_text(f"extends: [{', '.join(f'{kind}{i}.yaml' for i in range(3))}]\n")
        assert message in refused(tmp_path / "a.yaml")


SECRET = "correct-horse-battery-staple-" * 10


@pytest.mark.parametrize(
    "content",
    [
        SECRET,
        f"- {SECRET}\n",
        f"a: {SECRET}\n",
        f"password: '{SECRET}\n",
        f"data: {SECRET}\n",
        f"data: {{type: digits, {SECRET}: 1}}\n",
        f"seeds: {SECRET}\n",
        f"seeds: [{SECRET}]\n",
        f"extends: [[{SECRET}]]\n",
        f"extends: {SECRET}\n",
        f"arms: {SECRET}\n",
        f"arms: {{a: {SECRET}}}\n",
        f"arms: {{'{SECRET}': }}\n",
        f"a: !{SECRET} 1\n",
        f"a: *{SECRET}\n",
        f"{SECRET}\n b: 1\n",
        f"training: {{loss: {SECRET}}}\n",
        f"training: {{images: {SECRET}}}\n",
        f"sampling: {{{SECRET[:90]}: {{n: 1}}}}\n",
    ],
)
def test_a_message_quotes_little_of_a_file(tmp_path, content):
    (tmp_path / "a.yaml").write_text("extends: foreign\n")
    (tmp_path / "foreign").write_text(content)
    with pytest.raises(RecipeError) as caught:
        etsdm.build(tmp_path / "a.yaml")
    lines = str(caught.value).splitlines()
    assert all("correct-horse-battery-staple-" * 4 not in line for line in lines)
