"""The plots of the window for comparing: spectra of two layers, the FSC of a region, and the values of one voxel."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
from matplotlib.figure import Figure

from cryovae.napari_plugin.compare_model import Measured, Voxel
from cryovae.report.plots import draw_halves, draw_power

SMALL: Any = {"font.size": 7.5, "axes.titlesize": 8, "axes.labelsize": 7.5, "xtick.labelsize": 7, "ytick.labelsize": 7}
COLOURS = {"input": "tab:gray", "half1": "tab:gray", "mean": "tab:blue"}


class Plot(FigureCanvasQTAgg):  # type: ignore[misc]
    """A figure of a fixed height in pixels, as wide as its dock."""

    def __init__(self, height: int, layout: Any = "constrained") -> None:
        self.figure = Figure(figsize=(3.4, height / 100), layout=layout)
        super().__init__(self.figure)
        self.setMinimumSize(240, height)
        self.setMaximumHeight(height)

    def wheelEvent(self, event: Any) -> None:
        """Scroll the dock, not the plot."""
        event.ignore()

    def show_spectra(self, found: Measured) -> None:
        """Two spectra side by side on one scale of four decades, the edges of the wedge drawn."""
        self.figure.clear()
        high = max(float(np.percentile(power, 99.9)) for power in found.spectra.values())
        with rc_context(SMALL):
            axes = self.figure.subplots(1, len(found.spectra), sharey=True, squeeze=False)[0]
            for axis, (name, power) in zip(axes, found.spectra.items(), strict=True):
                picture = draw_power(axis, power, high, name, found.tilts)
                axis.set(xlabel="k_x (1/voxel)", ylabel="", xticks=(-0.4, 0, 0.4), yticks=(-0.4, 0, 0.4))
            axes[0].set_ylabel("k_z, beam (1/voxel)")
            self.figure.colorbar(picture, ax=list(axes), label="log10 power", orientation="horizontal", aspect=35, pad=0.02)
        self.draw_idle()

    def show_fsc(self, found: Measured) -> None:
        """FSC curves, measured part and wedge apart."""
        self.figure.clear()
        with rc_context(SMALL):
            axis: Any = self.figure.add_subplot()
            draw_halves(axis, found.rows, found.voxel_size, found.what)
            axis.title.set_fontsize(8)
            axis.set_ylabel("correlation")
            axis.get_legend().remove()
            self.figure.legend(fontsize=6.5, loc="outside lower center", ncols=2, frameon=False)
        self.draw_idle()

    def show_voxel(self, found: Voxel) -> None:
        """The samples as points on a line of grey values, with the other values, and the mean's bar of one standard deviation."""
        self.figure.clear()
        with rc_context(SMALL):
            axis = self.figure.add_subplot()
            if len(found.samples):
                heights = np.linspace(-0.25, 0.25, len(found.samples))
                axis.plot(found.samples, heights, "o", color="tab:orange", markersize=4, label="samples")
            for name, value in found.values.items():
                if name == "mean" and "std" in found.values:
                    axis.errorbar(value, 0, xerr=found.values["std"], fmt="s", color="tab:blue", capsize=4, label="mean ± std")
                elif name != "std":
                    axis.axvline(value, color=COLOURS.get(name, "tab:green"), linestyle="--", label=name)
            axis.set(ylim=(-0.6, 0.6), yticks=[], xlabel="grey level")
            axis.margins(x=0.1)
            self.figure.legend(fontsize=7, loc="outside upper center", ncols=4, frameon=False)
        self.draw_idle()
