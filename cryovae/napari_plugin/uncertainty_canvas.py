"""The legend of the overlay: its colours over grey, in grey levels and as a share of the contrast of the mean."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import rc_context

from cryovae.napari_plugin.compare_canvas import SMALL, Plot
from cryovae.napari_plugin.uncertainty_model import VarianceCalibration


class Legend(Plot):
    """A bar of colours, 95 pixels high."""

    def __init__(self) -> None:
        super().__init__(95)

    def show_colours(self, rgba: np.ndarray, spread: VarianceCalibration, opacity: float) -> None:
        """Show colours (n, 4) of an opacity from the lowest to the highest standard deviation."""
        low, high = spread.shown
        alpha = opacity * rgba[:, 3:]
        seen = (1 - alpha) * 0.5 + alpha * rgba[:, :3]
        self.figure.clear()
        with rc_context(SMALL):
            axis = self.figure.add_subplot()
            axis.imshow(seen[None], aspect="auto", extent=(low, high, 0, 1))
            axis.set(yticks=[], xlabel="standard deviation (grey levels)")
            percent = 100 / max(spread.contrast, 1e-30)
            functions: Any = (lambda std: std * percent, lambda share: share / percent)
            top = axis.secondary_xaxis("top", functions=functions)
            top.set_xlabel("% of the contrast of the mean")
        self.draw_idle()
