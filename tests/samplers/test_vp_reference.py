"""Recorded runs of the DPM-Solver authors' code and of UniPC's, on an exact denoiser in float64.

`samplers.json` was recorded from the original programs, LuChengTHU/dpm-solver and wl-zhao/UniPC (both MIT): final x and the number
of network calls, from t = 1 to t = 0.001 of the continuous linear schedule. The data are the one-dimensional mixture m1.
"""

import json
from pathlib import Path

import pytest
import torch

from etsdm.samplers import MultistepDPMSolver, SinglestepDPMSolver, UniPC
from etsdm.schedules import LinearContinuous
from etsdm.theory import ExactDenoiser, mixture

REFERENCE = json.loads((Path(__file__).parents[1] / "reference" / "samplers.json").read_text())["vp"]
GRIDS = {"logSNR": "log-snr", "time_uniform": "linspace", "time_quadratic": "quadratic"}


def sampler(run):
    """Ours with the settings of a recorded run."""
    fields = {"steps": run["steps"], "order": run["order"], "grid": GRIDS[run["grid"]], "t_end": 0.001}
    if run["algorithm"] == "unipc":
        return UniPC(**fields, variant=run["variant"], predicts=run["predicts"], lower_order_final=run["lower_order_final"])
    fields["predicts"] = {"dpmsolver": "eps", "dpmsolver++": "x0"}[run["algorithm"]]
    fields |= {name: run[name] for name in ("solver_type", "denoise_to_zero")}
    if run["method"] == "singlestep":
        return SinglestepDPMSolver(**fields)
    return MultistepDPMSolver(**fields, lower_order_final=run["lower_order_final"])


def label(run):
    names = ("algorithm", "method", "variant", "predicts", "order", "steps", "grid", "solver_type")
    return "-".join(str(run[name]) for name in names if name in run) + ("-to-zero" if run.get("denoise_to_zero") else "")


@pytest.mark.parametrize("run", REFERENCE["runs"], ids=label)
def test_a_run_ends_where_the_original_ends(run):
    start = torch.tensor(REFERENCE["x"], dtype=torch.float64)[:, None]
    *_, last = sampler(run).trajectory(ExactDenoiser(mixture("m1"), LinearContinuous()), start)
    torch.testing.assert_close(last.x[:, 0], torch.tensor(run["x"], dtype=torch.float64), rtol=0, atol=1e-8)
    assert last.nfe == run["calls"]


def test_every_run_was_recorded_once():
    assert len({label(run) for run in REFERENCE["runs"]}) == len(REFERENCE["runs"]) == 69
