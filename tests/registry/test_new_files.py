"""A new part is one new file in the package of its family."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import etsdm

SCHEDULE = '''
"""A schedule of one file."""

from etsdm.registry import schedules
from etsdm.schedules.flow import Flow


@schedules.register("triangular")
class Triangular(Flow):
    """A copy of flow."""
'''

GRID = '''
"""A preset of a grid."""

from etsdm.grids.noise import Karras
from etsdm.registry import grids

grids.preset("karras-3", Karras, "karras with rho 3", rho=3.0)
'''


@pytest.fixture
def run_in_copy(tmp_path):
    """Runs a program with a copy of the package that has more files."""

    def run(files, program):
        shutil.copytree(Path(etsdm.__file__).parent, tmp_path / "etsdm", ignore=shutil.ignore_patterns("__pycache__"))
        for name, text in files.items():
            (tmp_path / "etsdm" / name).write_text(text)
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout.split("\n")[:-1]

    return run


def test_a_new_file_alone_registers_its_part(run_in_copy):
    program = """
import sys
from etsdm.registry import grids, schedules
print("torch" in sys.modules)
print(schedules.create("triangular").alpha(0.25).item(), schedules.describe("triangular"))
print("triangular" in schedules.names(), len(schedules.names()) - len({*schedules.names()}))
print(grids.create("karras-3").rho)
"""
    printed = run_in_copy({"schedules/triangular.py": SCHEDULE, "grids/karras_3.py": GRID}, program)
    assert printed == ["False", "0.75 A copy of flow.", "True 0", "3.0"]


def test_a_module_that_registers_nothing_stays_unimported(run_in_copy):
    program = """
import sys
from etsdm.registry import schedules
schedules.names()
print("etsdm.schedules.heavy" in sys.modules)
"""
    assert run_in_copy({"schedules/heavy.py": '"""Heavy."""\n\nraise ImportError\n'}, program) == ["False"]
