"""The report's figures, as SVG text; that of curves also as a picture."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence, Sized

import numpy as np
from matplotlib import rc_context, style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from etsdm.analysis import edges_of
from etsdm.metrics import Curve, Histogram
from etsdm.registry import condition_maps, schedules
from etsdm.report.contents import Contents, RunRecord

__all__ = ["curves_figure", "curves_picture", "histogram_figure", "intervals_of", "training_figure"]

COLOURS = ("#3b6ea5", "#c8553d", "#3a8f5c", "#8a5aa8", "#b8860b", "#4d4d4d")
STYLES = ("-", "--", ":", "-.")
SHADE = "#00000010"
DOTS_PER_INCH = 150
LEGEND_COLUMNS = 4  # at most
LEGEND_WIDTH, LEGEND_HANDLE = 76, 7  # of the axes, and of a line with its margins, in characters
MAX_NAMES = 20  # of classes on an axis
SMOOTHING = 5  # records in the running mean of the training loss

# A matplotlibrc of the user, or in the working directory, changes no figure and starts no LaTeX.
_own_style = style.context("default")


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    # A fixed salt and no date: the same numbers give the same file.
    with rc_context({"svg.hashsalt": "etsdm"}):
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    return buffer.getvalue()


def _picture(figure: Figure, kind: str) -> bytes:
    if kind == "svg":
        return _svg(figure).encode()
    buffer = io.BytesIO()
    metadata = {"CreationDate": None} if kind == "pdf" else None
    figure.savefig(buffer, format=kind, bbox_inches="tight", dpi=DOTS_PER_INCH, metadata=metadata)
    return buffer.getvalue()


def _axes(width: float = 8.0, height: float = 3.4) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height))
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _legend(axes: Axes) -> None:
    """The legend above the axes, where it covers nothing, in as many columns as fit above them."""
    longest = max(len(name) for name in axes.get_legend_handles_labels()[1])
    columns = max(1, min(LEGEND_COLUMNS, LEGEND_WIDTH // (longest + LEGEND_HANDLE)))
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, borderaxespad=0.2)


def _marker(points: Sized) -> str | None:
    """The marker of a curve, without which one of a single point is not seen."""
    return "o" if len(points) == 1 else None


def intervals_of(contents: Contents, arms: Iterable[str]) -> tuple[float, ...]:
    """Edges of the shared sub-intervals of the first of some arms that has any, as times."""
    runs = contents.first_runs()
    for arm in arms:
        model = runs[arm].recipe["model"]
        if edges := edges_of(condition_maps.parse(model["condition_map"]), schedules.parse(model["schedule"])):
            return edges
    return ()


def _plain(text: str) -> str:
    """A label in which dollar signs begin no formula."""
    return text.replace("$", r"\$")


def _shade(axes: Axes, edges: Sequence[float], first: float) -> None:
    """Shades every other sub-interval, from the first time of the axis on, which may be logarithmic."""
    for i in range(0, len(edges) - 1, 2):
        if edges[i + 1] > first:
            axes.axvspan(max(edges[i], first), edges[i + 1], color=SHADE, linewidth=0)


@_own_style
def curves_figure(curves: Mapping[str, list[Curve]], edges: Sequence[float]) -> str:
    """A curve of every arm over time, averaged over seeds, with two standard errors, the sub-intervals shaded.

    A logarithmic axis is linear below the smallest positive value, so that exact zeros are seen.

    Args:
        curves: of every arm, one a seed.
        edges: of the sub-intervals to shade.
    """
    return _svg(_curves(curves, edges))


@_own_style
def curves_picture(curves: Mapping[str, list[Curve]], edges: Sequence[float], kind: str = "png") -> bytes:
    """The figure of `curves_figure` as a file. Args: kind: `png`, `svg` or `pdf`."""
    return _picture(_curves(curves, edges), kind)


def _curves(curves: Mapping[str, list[Curve]], edges: Sequence[float]) -> Figure:
    figure, axes = _axes()
    first = next(iter(curves.values()))[0]
    _shade(axes, edges, first.t[0])
    lowest = np.inf
    for k, (arm, of_seeds) in enumerate(curves.items()):
        t = np.array(of_seeds[0].t)
        mean = np.mean([curve.mean for curve in of_seeds], axis=0)
        many = len(of_seeds) > 1
        se = np.std([c.mean for c in of_seeds], axis=0, ddof=1) / len(of_seeds) ** 0.5 if many else np.array(of_seeds[0].se or 0.0)
        colour = COLOURS[k % len(COLOURS)]
        axes.plot(t, mean, color=colour, linestyle=STYLES[k % len(STYLES)], linewidth=1.4, marker=_marker(t), label=_plain(arm))
        axes.fill_between(t, mean - 2 * se, mean + 2 * se, color=colour, alpha=0.2, linewidth=0)
        lowest = min(lowest, *mean[mean > 0]) if (mean > 0).any() else lowest
    if first.log_scale and np.isfinite(lowest):
        zeros = any((np.array(curve.mean) == 0).any() for of_seeds in curves.values() for curve in of_seeds)
        # Without zeros a plain logarithm, whose ticks have numbers within a decade too.
        if zeros:
            axes.set_yscale("symlog", linthresh=lowest)
        else:
            axes.set_yscale("log")
        axes.set_ylim(bottom=0 if zeros else lowest / 1.2)
    if first.log_time:
        axes.set_xscale("log")
    if len(first.t) > 1:
        axes.set_xlim(first.t[0], first.t[-1])
    if all(float(t).is_integer() for t in first.t) and not first.log_time:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(first.t_label)
    axes.set_ylabel(first.label)
    _legend(axes)
    return figure


@_own_style
def histogram_figure(histograms: Mapping[str, Histogram]) -> str:
    """Shares of classes of every arm beside those of held-out images."""
    figure, axes = _axes(height=2.8)
    first = next(iter(histograms.values()))
    bars = {**{arm: histogram.shares for arm, histogram in histograms.items()}, "held-out": first.reference}
    width = 0.8 / len(bars)
    for k, (name, shares) in enumerate(bars.items()):
        colour = "#bbbbbb" if name == "held-out" else COLOURS[k % len(COLOURS)]
        axes.bar(np.arange(len(shares)) + (k - (len(bars) - 1) / 2) * width, shares, width, label=_plain(name), color=colour)
    every = -(-len(first.names) // MAX_NAMES)
    axes.set_xticks(range(0, len(first.names), every), first.names[::every])
    axes.set_xlabel("class")
    axes.set_ylabel(first.label)
    _legend(axes)
    return _svg(figure)


@_own_style
def training_figure(runs: Mapping[str, RunRecord]) -> str:
    """The training loss of every arm over images seen, as a running mean."""
    figure, axes = _axes(height=2.8)
    # A running mean of few records would leave too few points for a curve.
    window = SMOOTHING if min(len(run.log) for run in runs.values()) > 2 * SMOOTHING else 1
    for k, (arm, run) in enumerate(runs.items()):
        loss = np.array([record["loss"] for record in run.log])
        seen = np.array([record["images_seen"] for record in run.log])[window - 1 :]
        smooth = np.convolve(loss, np.ones(window) / window, mode="valid")
        colour, style_of_arm = COLOURS[k % len(COLOURS)], STYLES[k % len(STYLES)]
        axes.plot(seen, smooth, color=colour, linestyle=style_of_arm, marker=_marker(seen), label=_plain(arm))
    axes.set_yscale("log")
    axes.set_xlabel("images seen")
    axes.set_ylabel(f"training loss, mean of {window} records" if window > 1 else "training loss")
    _legend(axes)
    return _svg(figure)
