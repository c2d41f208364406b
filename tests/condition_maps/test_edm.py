from itertools import pairwise
from math import log
from statistics import NormalDist

import pytest
import torch

from etsdm.condition_maps import EDM_PARTITIONS, ETSDM, Compose, Sigma
from etsdm.condition_maps.time_inputs import LogSigma
from etsdm.registry import condition_maps
from etsdm.schedules import EDM, VPEDM

every_partition = pytest.mark.parametrize("name", EDM_PARTITIONS)


def test_the_vp_equivalent_edges_are_the_noise_levels_of_the_linear_process():
    # sqrt(exp(B) - 1) with B = 0.1 t + 9.95 t^2 at t = 0, 0.02, ..., 0.1, to four digits.
    edges = condition_maps.create("edm-vp-equivalent").edges
    assert [round(edge, 4) for edge in edges] == [0, 0.0774, 0.1418, 0.2067, 0.2726, 0.3402]
    times = torch.linspace(0, 0.1, 6, dtype=torch.float64)
    torch.testing.assert_close(torch.tensor(edges, dtype=torch.float64), VPEDM().sigma(times), rtol=1e-12, atol=0)


def test_the_vp_equivalent_map_is_e_tsdm_of_the_vp_process_in_its_sigma():
    shared = Compose(maps=(ETSDM(t_tilde=0.1), Sigma(scale="none")))
    t = torch.linspace(0.001, 0.15, 200, dtype=torch.float64)
    found = condition_maps.create("edm-vp-equivalent")(VPEDM().sigma(t))
    torch.testing.assert_close(found, shared(t, VPEDM()).clamp(min=0.002), rtol=1e-12, atol=0)


def test_more_than_half_of_the_training_draws_are_below_the_last_vp_equivalent_edge():
    assert round(NormalDist(-1.2, 1.2).cdf(log(EDM_PARTITIONS["edm-vp-equivalent"][-1])), 3) == 0.540


def test_the_quantile_intervals_hold_a_fiftieth_of_the_draws_each():
    edges = EDM_PARTITIONS["edm-quantile"]
    assert round(edges[-1], 4) == 0.0647
    shares = [0, *(NormalDist(-1.2, 1.2).cdf(log(edge)) for edge in edges[1:])]
    assert [after - before for before, after in pairwise(shares)] == pytest.approx([0.02] * 5)


def test_the_logarithmic_intervals_are_equal_in_the_time_input():
    edges = torch.tensor((0.002, *EDM_PARTITIONS["edm-log"][1:]), dtype=torch.float64)
    steps = LogSigma()(edges).diff()
    torch.testing.assert_close(steps, steps[:1].expand(5), rtol=1e-12, atol=0)
    assert edges[-1] == pytest.approx(EDM_PARTITIONS["edm-vp-equivalent"][-1])


@every_partition
def test_the_time_input_has_five_finite_values_below_the_last_edge(name):
    shared, edges = condition_maps.create(name), EDM_PARTITIONS[name]
    assert shared.check(EDM()) == []
    sigma = torch.linspace(0, edges[-1], 2001, dtype=torch.float64)[:-1]
    values = LogSigma()(shared(sigma)).unique()
    assert len(values) == 5
    assert values.isfinite().all()
    assert values[0] == pytest.approx(log(0.002) / 4)
    above = torch.tensor([edges[-1], 1.0, 80.0], dtype=torch.float64)
    assert torch.equal(shared(above), above)
