"""Figures of the report, read from their SVG: each text is a comment of the drawing, each point with a marker a `<use>`."""

import re
from types import SimpleNamespace

import pytest

from etsdm.metrics import Curve, Histogram
from etsdm.report.figures import curves_figure, histogram_figure, training_figure

NARROW_PX = 42 * 16  # width of a chart in windows of less than 44rem; wider ones have the SVG's own width
POINT_PX = 96 / 72


def texts(svg):
    return re.findall(r"<!-- (.*) -->", svg)


def markers(svg):
    """Kinds of markers; each axis has those of its ticks."""
    return len(re.findall(r'<path id="m', svg))


def curve(*t, **fields):
    return Curve(t=t, mean=tuple(1.0 + time for time in t), se=None, label="K(t, t+1)", **fields)


def logs(*counts):
    records = [[{"loss": 1.0 / k, "images_seen": 10 * k} for k in range(1, count + 1)] for count in counts]
    return {f"arm-{k}": SimpleNamespace(log=log) for k, log in enumerate(records)}


def test_timesteps_have_whole_numbers_on_the_axis():
    assert not [text for text in texts(curves_figure({"a": [curve(*range(20), log_scale=True)]}, ())) if text.endswith(".5")]
    assert "0.2" in texts(curves_figure({"a": [curve(0.0, 0.25, 1.0)]}, ()))


@pytest.mark.parametrize("t", [0.0, 3.5])
def test_a_curve_of_one_point_is_seen(t):
    alone, two = (curves_figure({"a": [curve(*points)]}, ()) for points in ((t,), (t, t + 1)))
    assert markers(alone) == markers(two) + 1


@pytest.mark.parametrize(("counts", "label"), [((1, 1), ""), ((4, 7), ""), ((100, 100), ", mean of 5 records")])
def test_the_training_loss_says_whether_it_is_a_running_mean(counts, label):
    assert f"training loss{label}" in texts(training_figure(logs(*counts)))


def test_the_training_loss_of_one_record_is_seen():
    assert markers(training_figure(logs(1))) == markers(training_figure(logs(9))) + 1


@pytest.mark.parametrize(
    "svg",
    [
        curves_figure({"baseline": [curve(*range(200), log_scale=True)]}, (0.0, 20.0)),
        histogram_figure({"a": Histogram(names=tuple("0123456789"), shares=(0.1,) * 10, reference=(0.1,) * 10, label="share")}),
        training_figure(logs(100, 100)),
        curves_figure({f"e-tsdm with {'many ' * 9}words {k}": [curve(*range(200), log_scale=True)] for k in range(5)}, ()),
    ],
)
def test_the_text_of_axes_has_nine_pixels_or_more(svg):
    width = float(re.search(r'<svg [^>]*width="([\d.]+)pt"', svg, re.DOTALL)[1])
    # A text of size s is drawn by outlines of 100 units, scaled by s / 100; an exponent by 0.7 of that.
    sizes = [100 * float(scale) for scale in re.findall(r"scale\(([\d.]+) -[\d.]+\)", svg)]
    smallest = min(sizes) * (0.7 if "scale(0.7)" in svg else 1)
    assert smallest * NARROW_PX / width >= 9
    assert smallest * POINT_PX >= 9


def test_of_many_classes_some_are_named():
    names = tuple(f"class-{k}" for k in range(100))
    shown = texts(histogram_figure({"a": Histogram(names=names, shares=(0.01,) * 100, reference=(0.01,) * 100, label="share")}))
    assert [text for text in shown if text.startswith("class-")] == list(names[::5])


def test_a_loss_within_a_decade_has_several_numbers_on_its_axis():
    loss = Curve(t=(0.0, 500.0, 999.0), mean=(0.9, 0.7, 0.6), se=None, label="held-out loss", log_scale=True)
    assert sum("mathdefault" in text for text in texts(curves_figure({"a": [loss]}, ()))) >= 3
