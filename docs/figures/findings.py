"""The figures of docs/concepts/theory.md, from exact values: python docs/figures/findings.py"""

from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from etsdm import lipschitz_curve
from etsdm.condition_maps import ETSDM
from etsdm.schedules import Linear
from etsdm.theory import ExactDenoiser, ddim_spread, ddpm_spread, mixture

HERE = Path(__file__).parent
ARMS = {"baseline": (None, "#3b6ea5", "-"), "E-TSDM, n = 5": (ETSDM(), "#c8553d", "--")}


def edges() -> Figure:
    """T K(i, i+1) of the exact optimum of m1, with the sub-intervals shaded."""
    figure = Figure(figsize=(8, 3.4))
    axes = figure.add_subplot()
    images = mixture("m1").sample(20_000, torch.Generator().manual_seed(0))
    for label, (condition_map, colour, style) in ARMS.items():
        curve = lipschitz_curve(ExactDenoiser(mixture("m1"), Linear(), condition_map=condition_map), images, range(200), batch_size=4000)
        axes.plot(curve.t, curve.per_unit_time().mean, style, color=colour, label=label)
    for i in range(0, 5, 2):
        axes.axvspan(20 * i, 20 * (i + 1), color="#00000010", linewidth=0)
    axes.set_yscale("symlog", linthresh=1)
    axes.set(xlabel="timestep t", ylabel="T K(t, t+1)", xlim=(0, 199), ylim=(0, 120))
    axes.legend(frameon=False)
    return figure


def spread() -> Figure:
    """Standard deviation of the samples over that of the data N(0, c^2), with the exact optimum."""
    figure = Figure(figsize=(8, 3.4))
    stds = np.geomspace(0.02, 1, 40)
    for place, (name, of) in enumerate({"DDPM, 1000 steps": ddpm_spread, "DDIM, 50 steps": ddim_spread}.items(), start=1):
        axes = figure.add_subplot(1, 2, place)
        for label, (condition_map, colour, style) in ARMS.items():
            axes.semilogx(stds, [of(Linear(), float(c), condition_map) for c in stds], style, color=colour, label=label)
        axes.axhline(1, color="#00000040", linewidth=1)
        axes.set(title=name, xlabel="standard deviation c of the data")
    figure.axes[0].set_ylabel("spread of the samples / c")
    figure.axes[0].legend(frameon=False)
    return figure


if __name__ == "__main__":
    for name, make in {"edges": edges, "spread": spread}.items():
        figure = make()
        for axes in figure.axes:
            axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(HERE / f"{name}.png", dpi=110, bbox_inches="tight", metadata={"Software": None})
