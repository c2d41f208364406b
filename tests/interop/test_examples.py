"""The examples of `share_timesteps` run and print what they promise."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
EXPECTED = {
    "share_unconditional.py": [
        "map of the loaded model: {'type': 'e-tsdm', 't_tilde': 100.0, 'n': 5, 'share': 'condition'}",
        "samples: (4, 8, 8, 1)",
        "equal at t = 0 and 19: True | at 19 and 20: False",
    ],
    "share_ddpm.py": [
        "the network receives: [0, 0, 20, 80, 100, 999]",
        "the copy is shared: True",
        "equal to a call with f(t): True",
    ],
    "share_text_to_image.py": [
        "map in the file: t_tilde=100.0 n=5 share='condition'",
        "the loaded model computes the same: True",
    ],
    "share_dit.py": ["network and scheduler give the same samples: True"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPECTED)
def test_an_example_prints_what_it_promises(name, tmp_path):
    assert len((EXAMPLES / name).read_text().splitlines()) < 70
    done = subprocess.run([sys.executable, EXAMPLES / name, tmp_path / "saved"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == EXPECTED[name]
