"""The figure of the measures of a generative model: draws beside data, spectrum, values of voxels, nearest patches, posterior."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from cryovae.evaluation.generative.prior import COPIED, LOW_PASS, low_passed
from cryovae.evaluation.generative.report import Drawn, SimulatedMeasures
from cryovae.report.figure import PlainFigure
from cryovae.report.pictures import save_figure

COLUMNS = 8
COLOURS = {"data": "black", "draws": "tab:blue", "Gaussian": "tab:orange"}


def generative_picture(path: Path, measures: SimulatedMeasures, drawn: Drawn, title: str) -> None:
    """Write the figure.

    Args:
        path: PNG file.
        measures: on simulated scenes.
        drawn: patches to look at.
        title: line above the panels.
    """
    figure = PlainFigure(figsize=(16, 17), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=(3, 2))
    above, below = parts
    patch_rows(above, {"data": drawn.data, "draws": drawn.draws, "Gaussian": drawn.gaussian})
    axes = below.subplots(2, 2)
    _power(axes[0, 0], measures)
    _values(axes[0, 1], drawn)
    _nearest(axes[1, 0], measures)
    _posterior(axes[1, 1], measures)
    figure.suptitle(title)
    save_figure(path, figure, dpi=75)


def patch_rows(figure: Any, sets: dict[str, Tensor], rows: int = 2) -> None:
    """Middle slices of patches (n, z, y, x), ``rows`` rows of eight for each set, all on one grey scale."""
    axes = figure.subplots(rows * len(sets), COLUMNS, squeeze=False)
    low, high = np.percentile(next(iter(sets.values()))[: rows * COLUMNS].numpy(), (0.5, 99.5))
    for block, (name, patches) in enumerate(sets.items()):
        index = np.linspace(0, len(patches) - 1, rows * COLUMNS).round().astype(int)
        for number, patch in enumerate(index):
            axis = axes[rows * block + number // COLUMNS, number % COLUMNS]
            density = patches[int(patch)].numpy()
            axis.imshow(density[len(density) // 2], cmap="gray", vmin=low, vmax=high, origin="lower")
            axis.set(xticks=[], yticks=[])
            if number % COLUMNS == 0:
                axis.set_ylabel(name)


def _power(axis: Any, measures: SimulatedMeasures) -> None:
    for name, part in (("draws", measures.prior), ("Gaussian", measures.gaussian)):
        axis.plot(part.frequency, part.power, "o-", color=COLOURS[name], label=name)
    axis.axhspan(0.85, 1.15, color="lightgray", zorder=0)
    axis.axvline(LOW_PASS, color="gray", linestyle=":")
    axis.set(ylim=(0, 1.6), title="power of the draws over that of the data; grey: within 15 %")
    axis.set(xlabel="frequency (cycles per voxel)", ylabel="ratio")
    axis.legend()


def _values(axis: Any, drawn: Drawn) -> None:
    sets = {"data": drawn.data, "draws": drawn.draws, "Gaussian": drawn.gaussian}
    edges = np.linspace(-6, 4, 81)
    for name, patches in sets.items():
        axis.hist(low_passed(patches).flatten().numpy(), edges, histtype="step", density=True, color=COLOURS[name], label=name)
    axis.set_yscale("log")
    axis.set(title=f"values of voxels, low-passed at {LOW_PASS:g} cycles per voxel")
    axis.set(xlabel="density (standard deviations of the signal; protein is dark)", ylabel="share of the voxels per unit")
    axis.legend()


def _nearest(axis: Any, measures: SimulatedMeasures) -> None:
    edges = np.linspace(0, 1, 41)
    axis.hist(measures.nearest_of_data, edges, histtype="step", color=COLOURS["data"], label="data of other scenes", density=True)
    axis.hist(measures.prior.nearest, edges, histtype="step", color=COLOURS["draws"], label="draws", density=True)
    axis.axvline(COPIED, color="gray", linestyle=":", label="copied")
    axis.set(title="most similar training patch", xlabel="correlation, best of 24 rotations", ylabel="patches per unit")
    axis.legend()


def _posterior(axis: Any, measures: SimulatedMeasures) -> None:
    if not measures.posterior:
        axis.set_axis_off()
        axis.text(
            0.5, 0.5, "no posterior of scenes: the model was fitted\nto a tomogram with the estimate of its network", ha="center"
        )
        return
    names = ("correlation", "error_over_std", "factor_two", "coverage")
    aims = (None, 1.0, 2.0, 0.9)
    for offset, (part, values) in enumerate(measures.posterior.items()):
        heights = [getattr(values, name) for name in names]
        bars = axis.bar(np.arange(len(names)) + 0.4 * (offset - 0.5), heights, 0.38, label=part)
        axis.bar_label(bars, [f"{height:.2f}" for height in heights])
    for place, aim in enumerate(aims):
        if aim is not None:
            axis.hlines(aim, place - 0.45, place + 0.45, color="black", linestyle=":")
    axis.set_xticks(range(len(names)), ["correlation\nof the mean", "error over std", "factor two", "coverage of 90 %"])
    axis.set(title="posterior of patches, without any fit; dotted: what a right posterior has")
    axis.legend()
