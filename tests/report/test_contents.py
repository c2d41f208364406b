import math
import shutil
from pathlib import Path

import pytest

import etsdm
from etsdm.errors import DataError
from etsdm.report.contents import Comparison, Interval, MetricKey, gather
from etsdm.runs.folder import ExperimentFolder
from etsdm.runs.records import ValueRecord
from etsdm.storage.records import read_record, write_record

TINY = Path(__file__).parents[1] / "recipes" / "tiny.yaml"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    experiment = etsdm.build(TINY, out=tmp_path_factory.mktemp("finished"))
    experiment.run()
    return experiment


def comparison(difference):
    by_arm = {"a": Interval(2.0, 0.1, 5), "b": Interval(2.0, 0.1, 5)}
    return Comparison(MetricKey("loss", None), "loss", "", by_arm, None, {"b": difference}, "5 × image, paired")


def test_the_half_width_is_students():
    # Student's t at 97.5 % with 4 degrees of freedom is 2.776.
    assert Interval(0.0, 2.0, 5).half_width == pytest.approx(2 * 2.776, rel=1e-3)


@pytest.mark.parametrize(
    ("difference", "verdict"),
    [
        (Interval(0.5, 0.1, 5), "+0.5 (+25.0%), 95 % [+0.222, +0.778]: differs"),
        (Interval(-0.1, 0.1, 5), "-0.1 (-5.0%), 95 % [-0.378, +0.178]: no difference seen"),
        (Interval(0.5, None, 1), "+0.5, no interval from one unit"),
        (None, "not compared: measured by different protocols"),
    ],
)
def test_a_verdict_says_what_the_interval_says(difference, verdict):
    assert comparison(difference).verdict("b") == verdict


def test_differences_are_taken_unit_by_unit(finished):
    contents = gather(finished.folder)
    row = next(row for row in contents.comparisons if row.title == "recognition")
    a, b = (contents.runs[arm][0].results[MetricKey("recognition", "default")].values["recognition"] for arm in ("baseline", "e-tsdm"))
    pieces = [y - x for x, y in zip(a.per_unit, b.per_unit, strict=True)]
    mean = sum(pieces) / len(pieces)
    deviation = math.sqrt(sum((piece - mean) ** 2 for piece in pieces) / (len(pieces) - 1))
    assert row.differences["e-tsdm"].value == pytest.approx(b.value - a.value)
    assert row.differences["e-tsdm"].se == pytest.approx(deviation / math.sqrt(16))
    assert row.units == "16 × sample, paired"


def test_values_of_different_protocols_are_not_compared(finished, tmp_path):
    file = "e-tsdm/values/default/recognition.json"
    copy = ExperimentFolder(tmp_path / "tiny")
    shutil.copytree(finished.folder.path, copy.path)
    record = read_record(copy.path / file, ValueRecord)
    write_record(copy.path / file, record.model_copy(update={"protocol_digest": "0" * 64}))
    rows = {row.title: row for row in gather(copy).comparisons}
    assert rows["recognition"].differences["e-tsdm"] is None
    assert rows["pixel Frechet"].differences["e-tsdm"] is not None


@pytest.mark.parametrize("lost", ["run.json", "values/default/recognition.json", "samples/default/stage.json"])
def test_a_run_that_lacks_a_record_is_left_out_with_a_warning(finished, tmp_path, lost):
    copy = ExperimentFolder(tmp_path / "tiny")
    shutil.copytree(finished.folder.path, copy.path)
    (copy.path / "e-tsdm" / lost).unlink()
    with pytest.warns(UserWarning, match=r"tiny/e-tsdm: is not finished, and left out of the report; run the recipe to finish it"):
        assert list(gather(copy).runs) == ["baseline"]


def test_an_empty_folder_has_no_report(tmp_path):
    with pytest.raises(DataError, match="holds no finished run; run the recipe first"):
        gather(ExperimentFolder(tmp_path))


def test_the_page_is_whole_in_itself_and_shows_every_arm_and_figure(finished):
    page = finished.folder.report_file.read_text()
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    assert page.count("data:image/png;base64,") == 2
    assert page.count("data:image/svg+xml;base64,") == 4
    for row in gather(finished.folder).comparisons:
        assert f"<strong>{row.title}</strong>" in page
    assert "t_tilde: 100.0" in page


def test_several_seeds_give_intervals_over_seeds(tmp_path):
    experiment = etsdm.build(TINY, "seeds=[0, 1, 2]", "training.images=64", "training.warmup_images=0", out=tmp_path)
    experiment.run()
    row = next(row for row in gather(experiment.folder).comparisons if row.title == "recognition")
    values = [run.results["recognition"].values["recognition"].value for run in experiment.runs]
    base, other = values[:3], values[3:]
    assert row.units == "3 seeds"
    assert row.by_arm["baseline"].value == pytest.approx(sum(base) / 3)
    assert row.differences["e-tsdm"].value == pytest.approx((sum(other) - sum(base)) / 3)
    assert row.differences["e-tsdm"].units == 3
