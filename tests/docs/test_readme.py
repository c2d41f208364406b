"""The README says what is true: its example runs, its commands are the ones promised."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
CHECKS = """
assert report.is_file()
assert images.shape == (16, 1, 8, 8) and images.abs().max() <= 1
assert (curve.mean[:19] == 0).all() and curve.mean[19] > 0
"""


def test_the_two_commands_are_there():
    venv = "python3 -m venv .venv && .venv/bin/pip install -e"
    assert f"\n{venv} . && .venv/bin/etsdm run recipes/digits.yaml\n" in README
    assert f"\n{venv} '.[dev]' && .venv/bin/pytest\n" in README


@pytest.mark.slow
def test_the_example_runs(tmp_path):
    (tmp_path / "recipes").mkdir()
    # The README's recipe, as small as it gets.
    (tmp_path / "recipes" / "digits.yaml").write_text(f"extends: {ROOT / 'tests' / 'recipes' / 'tiny.yaml'}\n")
    code = "".join(re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL))
    done = subprocess.run([sys.executable, "-c", code + CHECKS], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
