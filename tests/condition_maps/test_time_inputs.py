from math import log

import pytest
import torch
from pydantic import ValidationError

from etsdm.condition_maps.time_inputs import LogSigma, Scaled, Timesteps
from etsdm.registry import format_errors

CONDITIONS = torch.tensor([0.002, 0.5, 1.0, 80.0], dtype=torch.float64)


def test_timesteps_are_handed_on_and_shares_of_the_horizon_multiplied():
    assert torch.equal(Timesteps()(CONDITIONS), CONDITIONS)
    assert torch.equal(Scaled(factor=999)(CONDITIONS), 999 * CONDITIONS)


def test_the_logarithm_of_sigma_is_that_of_edm_and_of_ve():
    # Karras et al. 2022, table 1: c_noise = ln(sigma)/4, and ln(sigma/2) for VE.
    assert LogSigma()(CONDITIONS).tolist() == pytest.approx([log(sigma) / 4 for sigma in CONDITIONS.tolist()], rel=1e-14)
    ve = LogSigma(factor=1, unit=2)(CONDITIONS)
    assert ve.tolist() == pytest.approx([log(sigma / 2) for sigma in CONDITIONS.tolist()], rel=1e-14)


@pytest.mark.parametrize("fields", [{"factor": 0}, {"unit": -1.0}])
def test_a_factor_and_a_unit_are_above_zero(fields):
    with pytest.raises(ValidationError) as error:
        LogSigma(**fields)
    (problem,) = format_errors(error.value)
    assert problem.message.endswith("give a value above 0")
