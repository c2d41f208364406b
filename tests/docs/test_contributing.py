"""The walk in CONTRIBUTING: each new part is one file in a copy of the package; it is listed and does what the page says."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from package_sources import PACKAGE, ROOT

STEP = re.compile(
    r"^### [^\n]*`(etsdm/[\w/]+\.py)`\n.*?^```python\n(.*?)^```\n.*?^```python\n(.*?)^```\n\n```text\n(.*?)^```\n",
    re.MULTILINE | re.DOTALL,
)
STEPS = {file: (source, use, printed) for file, source, use, printed in STEP.findall((ROOT / "CONTRIBUTING.md").read_text())}
REGISTERED = re.compile(r'@(\w+)\.register\("([\w-]+)"\)\nclass \w+\(\w+\):\n    """(.*?)[\n"]')
FAMILIES = {"schedules", "samplers", "metrics", "datasets", "optimizers"}


def in_copy(folder, *command):
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(folder)}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_walk_adds_a_part_of_each_family():
    assert {REGISTERED.search(source)[1] for source, *_ in STEPS.values()} == FAMILIES


@pytest.mark.slow
@pytest.mark.parametrize("file", STEPS)
def test_a_new_part_is_one_file(file, tmp_path):
    source, use, printed = STEPS[file]
    family, name, description = REGISTERED.search(source).groups()
    shutil.copytree(PACKAGE, tmp_path / "etsdm", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    assert not (tmp_path / file).exists()
    (tmp_path / file).write_text(source)
    assert json.loads(in_copy(tmp_path, "-m", "etsdm", "parts", family, "--json"))[family][name] == description
    assert in_copy(tmp_path, "-c", use) == printed
