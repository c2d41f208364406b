"""Content that would run something: none of it does, in images, recipes, settings and names (docs/concepts/threat-model.md)."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from entry_point import run
from PIL import Image

import etsdm
from etsdm.errors import EtsdmError
from etsdm.registry import datasets
from etsdm.runs.launch import run_in_processes
from etsdm.sampling import PngStore, read_low_res, write_npz

PACKAGE = Path(etsdm.__file__).parent
TINY = Path(__file__).parents[1] / "recipes" / "tiny.yaml"

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(ran) print showpage\n%%EOF\n"


@pytest.fixture
def ghostscript(tmp_path, monkeypatch):
    """A program `gs` that leaves a file when it is started. Returns: that file."""
    programs, started = tmp_path / "programs", tmp_path / "started"
    programs.mkdir()
    (programs / "gs").write_text(f"#!/bin/sh\ntouch {started}\nexit 1\n")
    (programs / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    return started


def test_ghostscript_would_be_started_without_a_list_of_formats(tmp_path, ghostscript):
    (tmp_path / "cat.png").write_bytes(EPS)
    with pytest.raises(subprocess.CalledProcessError), Image.open(tmp_path / "cat.png") as picture:
        picture.load()
    assert ghostscript.exists()


def test_an_image_that_is_eps_inside_starts_nothing(tmp_path, ghostscript, tiny_spec):
    images = tmp_path / "images"
    images.mkdir()
    (images / "cat.png").write_bytes(EPS)
    folder = datasets.create("image-folder", path=str(images), image_size=8, held_out=0)
    spec = tiny_spec(super_resolution={"factor": 2}, backbone={"in_channels": 2})
    store = PngStore(tmp_path / "job", {})
    store.open_for(1)
    store.file(0).write_bytes(EPS)
    for read in (folder.open("train").load, lambda: read_low_res(images, spec), lambda: write_npz(store, 1, "samples.npz")):
        with pytest.raises(EtsdmError):
            read()
    assert not ghostscript.exists()


def calls(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {keyword.arg for keyword in node.keywords}


# Converters of other programs' checkpoints; tests/interop has their payloads.
CHECKED = {("torch_file.py", "torch.load"), ("pickled_network.py", "subprocess.run")}


def test_no_code_of_the_package_reads_a_format_that_runs_code():
    found = [(file.name, *call) for file in PACKAGE.rglob("*.py") for call in calls(ast.parse(file.read_text()))]
    assert [one for one in found if one[1] == "Image.open" and "formats" not in one[2]] == []
    assert [one for one in found if one[1] == "Environment" and "autoescape" not in one[2]] == []
    unsafe = r"(torch|np|numpy|joblib)\.load|pickle\.\w+|yaml\.(load|unsafe_load|full_load)|eval|exec|os\.system|subprocess\..*"
    assert {one[:2] for one in found if re.fullmatch(unsafe, one[1])} == CHECKED
    assert all("weights_only" in one[2] for one in found if one[1] == "torch.load")
    imported = {
        (file.name, alias.name)
        for file in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    # CIFAR-10's batches are pickles; the reader knows stand-ins of numpy's arrays and nothing else, as tests/data/sources shows.
    unsafe = {"pickle", "dill", "joblib", "marshal", "shelve"}
    assert {one for one in imported if one[1] in unsafe} == {("plain_pickle.py", "pickle")}


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system [true]", "!!python/name:os.system", "!!python/module:os", "!run x"])
def test_tags_of_yaml_make_nothing(tmp_path, tag):
    (tmp_path / "bad.yaml").write_text(f"extends: {TINY}\ndescription: {tag}\n")
    result = run("recipe", "validate", "bad.yaml", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")


@pytest.mark.skipif(sys.platform != "linux", reason="the start of processes differs")
def test_worker_processes_import_nothing_from_the_working_directory(tmp_path, monkeypatch):
    for name in ("socket", "struct", "tempfile", "selectors", "random"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    monkeypatch.chdir(tmp_path)
    runs = etsdm.build(TINY, "training.images=32", "training.warmup_images=0", out=tmp_path).arm("baseline").runs
    assert list(run_in_processes(runs, ("train",)))[-1].finished
    assert not (tmp_path / "ran").exists()


FIGURE = """
import hashlib
from etsdm.metrics import Curve
from etsdm.report.figures import curves_picture
curve = Curve(t=(0.0, 1.0), mean=(1.0, 2.0), se=(0.0, 0.0), t_label="t", label="K")
print(hashlib.sha256(curves_picture({NAME: [curve]}, ())).hexdigest())
"""


def test_settings_of_matplotlib_in_the_working_directory_change_no_figure(tmp_path):
    found = []
    for place, settings in ((tmp_path / "a", ""), (tmp_path / "b", "text.usetex: true\nlines.linewidth: 9\naxes.facecolor: red\n")):
        place.mkdir()
        (place / "matplotlibrc").write_text(settings)
        command = [sys.executable, "-c", FIGURE.replace("NAME", "'a'")]
        environment = {"PYTHONPATH": str(PACKAGE.parent), "HOME": str(tmp_path)}
        found.append(subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=True).stdout)
    assert found[0] == found[1]


def test_dollar_signs_of_a_name_begin_no_formula(capsys):
    exec(FIGURE.replace("NAME", r"r'runs/$\frac{$/a'"), {})
    assert len(capsys.readouterr().out) == 65


def test_brackets_of_a_path_are_no_markup(tmp_path):
    out = tmp_path / "a[/b] :smile: [red]c"
    short = ("training.images=32", "training.warmup_images=0", "sampling.n=2", "evaluation.metrics=[recognition]", "compute.jobs=1")
    result = run("run", TINY, *short, "--arm", "baseline", "--out", out)
    assert (result.returncode, result.stderr) == (0, "")
    assert f"report: {out}/tiny/report.html" in result.stdout


def test_an_archive_of_samples_opens_without_pickle(tmp_path):
    store = PngStore(tmp_path / "job", {})
    store.open_for(2)
    store.write(range(2), torch.zeros(2, 1, 4, 4))
    with np.load(write_npz(store, 2, "samples.npz", label=lambda k: k), allow_pickle=False) as archive:
        assert archive["arr_0"].shape == (2, 4, 4, 1)
        assert archive["arr_1"].tolist() == [0, 1]
