import math

import pytest
import torch

from etsdm.metrics import Curve, Histogram, MetricResult, Value, mean_value


def test_a_mean_comes_with_its_standard_error():
    # Mean 2.5; variance with N - 1: (2.25 + 0.25 + 0.25 + 2.25) / 3 = 5/3; standard error sqrt(5/3 / 4).
    value = mean_value(torch.tensor([1.0, 2.0, 3.0, 4.0]), higher_is_better=False, reference=2.0)
    assert value.value == 2.5
    assert value.se == pytest.approx(math.sqrt(5 / 12), rel=1e-15)
    assert value.per_unit == (1, 2, 3, 4)
    assert (value.higher_is_better, value.reference, value.unit_name) == (False, 2.0, "image")


def test_one_piece_has_no_standard_error():
    assert mean_value(torch.tensor([3.0])).se is None


def test_the_standard_error_covers_the_mean_as_often_as_it_should():
    # The mean of N standard normal numbers is within two standard errors of 0 with probability 0.95.
    stream = torch.Generator().manual_seed(0)
    values = [mean_value(torch.randn(50, generator=stream)) for _ in range(400)]
    inside = sum(abs(value.value) < 2 * value.se for value in values) / 400
    assert abs(inside - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 400)


def test_an_outcome_comes_back_from_json():
    outcome = MetricResult(
        values={"a": mean_value(torch.rand(5, generator=torch.Generator().manual_seed(0))), "b": Value(value=0.1, description="b")},
        curves={"c": Curve(t=(0, 0.1), mean=(1 / 3, 2e-308), se=(0.0, 1e300), label="K", log_scale=True)},
        histograms={"d": Histogram(names=("0", "1"), shares=(0.25, 0.75), reference=(0.5, 0.5), label="share")},
    )
    assert MetricResult.model_validate_json(outcome.model_dump_json()) == outcome


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_number_that_is_not_finite_is_no_result(number):
    with pytest.raises(ValueError, match="finite"):
        Value(value=number)
