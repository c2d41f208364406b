import csv
import json

import pytest

from etsdm.analysis import lipschitz_curve
from etsdm.analysis.records import csv_text, json_record, selected_rows
from etsdm.randomness import per_sample_normal
from etsdm.registry import condition_maps, schedules
from etsdm.theory import ExactDenoiser, mixture

SAMPLES = per_sample_normal(0, "test/samples", range(40), (1,)).double()
PROTOCOL = {"mode": "shared-x", "data": {"type": "m1"}}


def measure(t, schedule="linear", **options):
    return lipschitz_curve(ExactDenoiser(mixture("m1"), schedules.create(schedule)), SAMPLES, t, **options)


@pytest.fixture(scope="module")
def curves():
    return {"baseline": measure([0, 1, 50]), "odd, name": measure([0, 1, 50], mode="max")}


def test_json_has_the_main_curve_at_the_top_and_all_by_name(curves):
    record = json.loads(json.dumps(json_record(curves, "baseline", PROTOCOL), allow_nan=False))
    main = curves["baseline"]
    assert (record["t"], record["mean"], record["se"]) == (main.t.tolist(), main.mean.tolist(), main.se.tolist())
    assert (record["unit"], record["mode"], record["dt"], record["images"]) == ("per step", "shared-x", 1, 40)
    assert (record["curve"], list(record["curves"])) == ("baseline", list(curves))
    assert record["curves"]["odd, name"]["se"] == [None] * 3  # a maximum has no standard error
    assert record["protocol"] == PROTOCOL


def test_csv_keeps_every_digit_and_says_how_it_was_measured(curves):
    text = csv_text(curves, PROTOCOL)
    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert comments == ['# mode: "shared-x"', '# data: {"type": "m1"}', '# unit: "per step"']
    rows = list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
    for name, curve in curves.items():
        own = [row for row in rows if row["curve"] == name]
        assert [float(row["t"]) for row in own] == curve.t.tolist()
        assert [float(row["mean"]) for row in own] == curve.mean.tolist()
        assert [row["se"] for row in own] == ([""] * 3 if name == "odd, name" else [repr(se) for se in curve.se.tolist()])


def test_the_selected_rows_are_the_first_round_numbers_the_jumps_and_the_last():
    edges = condition_maps.create("e-tsdm").edges
    curve = measure(range(998))
    shown = [0, 1, 2, 3, 4, 5, 10, 19, 20, 39, 50, 59, 79, 99, 100, 200, 500, 997]
    assert [int(curve.t[k]) for k in selected_rows(curve, edges)] == shown
    some = measure([0.5, 7, 100, 300, 301, 302, 303])
    assert [float(some.t[k]) for k in selected_rows(some, ())] == [0.5, 7, 100, 300, 301, 303]


def test_the_selected_rows_of_a_continuous_schedule_are_counted_in_its_steps():
    curve = measure([k / 1000 for k in range(1, 200)], "linear-continuous")
    shown = [curve.t[k].item() for k in selected_rows(curve, (0.0, 0.02, 0.04))]
    assert shown == pytest.approx([0.001, 0.002, 0.003, 0.004, 0.005, 0.01, 0.019, 0.02, 0.039, 0.05, 0.1, 0.199])
