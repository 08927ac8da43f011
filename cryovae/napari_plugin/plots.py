"""Plots of the widgets: spectra and FSC of two layers, values of one voxel, the colours of the uncertainty, losses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg

from cryovae.napari_plugin.compare_model import RegionComparison, Voxel
from cryovae.napari_plugin.uncertainty_model import StdStatistics
from cryovae.report.figure import PlainFigure
from cryovae.report.plots import draw_halves, draw_power
from cryovae.tomogram import TiltGeometry

SMALL_FONTS: Any = {"font.size": 7.5, "axes.titlesize": 8, "axes.labelsize": 7.5, "xtick.labelsize": 7, "ytick.labelsize": 7}
ROLE_COLOURS = {"input": "tab:gray", "half1": "tab:gray", "mean": "tab:blue"}


class Plot(FigureCanvasQTAgg):  # type: ignore[misc]
    """A figure of a fixed height in pixels, as wide as its dock, and invisible until it is drawn."""

    def __init__(self, height: int, tip: str, layout: Any = "constrained") -> None:
        self.figure = PlainFigure(figsize=(3.4, height / 100), layout=layout)
        super().__init__(self.figure)
        self.setMinimumSize(240, height)
        self.setMaximumHeight(height)
        self.setToolTip(tip)
        self.hide()

    def wheelEvent(self, event: Any) -> None:
        """Scroll the dock, not the plot."""
        event.ignore()

    @contextmanager
    def redrawn(self) -> Iterator[Any]:
        """The empty figure to draw in; it is shown afterwards."""
        self.figure.clear()
        with rc_context(SMALL_FONTS):
            yield self.figure
        self.show()
        self.draw_idle()


def listed(name: str) -> str:
    """A name as a label of a legend, from which matplotlib leaves out those that begin with an underscore."""
    return f" {name}" if name.startswith("_") else name


def draw_spectra(plot: Plot, comparison: RegionComparison) -> None:
    """Two spectra side by side on one scale of four decades, with the edges of the wedge."""
    high = max(float(np.percentile(power, 99.9)) for power in comparison.spectra.values())
    with plot.redrawn() as figure:
        axes = figure.subplots(1, len(comparison.spectra), sharey=True, squeeze=False)[0]
        for axis, (name, power) in zip(axes, comparison.spectra.items(), strict=True):
            picture = draw_power(axis, power, high, name, comparison.tilts)
            axis.set(xlabel="k_x (1/voxel)", ylabel="", xticks=(-0.4, 0, 0.4), yticks=(-0.4, 0, 0.4))
        axes[0].set_ylabel("k_z, beam (1/voxel)")
        figure.colorbar(picture, ax=list(axes), label="log10 power", orientation="horizontal", aspect=35, pad=0.02)


def draw_wedge(plot: Plot, power: np.ndarray, tilts: TiltGeometry) -> None:
    """The spectrum (k_z, k_x) of a file with the edges of the wedge of a tilt geometry."""
    with plot.redrawn() as figure:
        axis = figure.add_subplot()
        picture = draw_power(axis, power, float(np.percentile(power, 99.9)), "file, and edges of these tilts", tilts)
        axis.set(xlabel="k_x (1/voxel)", ylabel="k_z, beam (1/voxel)", xticks=(-0.4, 0, 0.4), yticks=(-0.4, 0, 0.4))
        figure.colorbar(picture, ax=axis, label="log10 power")


def draw_fsc(plot: Plot, comparison: RegionComparison) -> None:
    """FSC curves, of the measured part and of the missing wedge."""
    with plot.redrawn() as figure:
        axis = figure.add_subplot()
        draw_halves(axis, comparison.rows, comparison.voxel_size, comparison.what)
        axis.title.set_fontsize(8)
        axis.set_ylabel("correlation")
        axis.get_legend().remove()
        figure.legend(fontsize=6.5, loc="outside lower center", ncols=2, frameon=False)


def draw_voxel(plot: Plot, voxel: Voxel) -> None:
    """The samples as points on a line of grey values, the other values, and the mean with one standard deviation."""
    with plot.redrawn() as figure:
        axis = figure.add_subplot()
        if len(voxel.samples):
            heights = np.linspace(-0.25, 0.25, len(voxel.samples))
            axis.plot(voxel.samples, heights, "o", color="tab:orange", markersize=4, label="samples")
        for name, value in voxel.values.items():
            if name == "mean" and "std" in voxel.values:
                axis.errorbar(value, 0, xerr=voxel.values["std"], fmt="s", color="tab:blue", capsize=4, label="mean ± std")
            elif name != "std":
                axis.axvline(value, color=ROLE_COLOURS.get(name, "tab:green"), linestyle="--", label=listed(name))
        axis.set(ylim=(-0.6, 0.6), yticks=[], xlabel="grey level")
        axis.margins(x=0.1)
        figure.legend(fontsize=7, loc="outside upper center", ncols=4, frameon=False)


def draw_colours(plot: Plot, rgba: np.ndarray, statistics: StdStatistics, opacity: float) -> None:
    """Colours (n, 4) of an opacity over grey, from the lowest to the highest standard deviation."""
    low, high = statistics.shown
    alpha = opacity * rgba[:, 3:]
    percent = 100 / max(statistics.contrast, 1e-30)
    functions: Any = (lambda std: std * percent, lambda share: share / percent)
    with plot.redrawn() as figure:
        axis = figure.add_subplot()
        axis.imshow(((1 - alpha) * 0.5 + alpha * rgba[:, :3])[None], aspect="auto", extent=(low, high, 0, 1))
        axis.set(yticks=[], xlabel="standard deviation (grey levels)")
        axis.secondary_xaxis("top", functions=functions).set_xlabel("% of the contrast of the mean")


def draw_losses(plot: Plot, losses: dict[str, list[tuple[int, float]]]) -> None:
    """One line of (training step, nats per coefficient) for each name."""
    with plot.redrawn() as figure:
        axis = figure.add_subplot()
        for name, points in losses.items():
            axis.plot(*zip(*points, strict=True), marker="." if len(points) < 12 else "", label=name)
        axis.set(xlabel="training step", ylabel="nats per coefficient")
        axis.legend(frameon=False)
