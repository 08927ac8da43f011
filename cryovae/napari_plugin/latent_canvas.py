"""The plane of the patches as a scatter plot to click and drag in, and the three middle slices of a density."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.backend_bases import MouseButton
from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
from matplotlib.widgets import LassoSelector
from qtpy.QtCore import Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtGui import QImage, QPixmap
from qtpy.QtWidgets import QGridLayout, QLabel, QWidget

from cryovae.napari_plugin.controls import note
from cryovae.napari_plugin.latent_model import as_bytes, three_slices
from cryovae.report.figure import PlainFigure

# Pixels within which a click belongs to a point.
REACH = 7
# The plane extends beyond the patches by this share of their extent.
MARGIN = 0.15
# Pixels of a slice; three of them fit side by side into a dock of 380 pixels.
SIDE = 100


class PlaneCanvas(FigureCanvasQTAgg):  # type: ignore[misc]
    """Points of all patches, the selected patch, the ends of a walk, and a cursor, which alone is redrawn in a drag.

    Attributes:
        pressed: Signal (x, y, reach in x, reach in y) of the place in the plane where the mouse was pressed.
        dragged: Signal (x, y) of the place to which it was moved while pressed.
        outlined: Signal of the vertices of an outline that was drawn with the lasso.
    """

    pressed = Signal(float, float, float, float)
    dragged = Signal(float, float)
    outlined = Signal(object)

    def __init__(self) -> None:
        self.figure = PlainFigure(figsize=(3.6, 3.2), layout="constrained")
        super().__init__(self.figure)
        self.axes = self.figure.add_subplot()
        self.points = self.axes.scatter([], [], s=18, color="tab:blue", alpha=0.7, linewidths=0)
        self.group = self.axes.scatter([], [], s=22, color="tab:orange", linewidths=0, zorder=3)
        self.selected = self.axes.scatter([], [], s=70, facecolors="none", edgecolors="tab:orange", linewidths=2)
        self.way = self.axes.plot([], [], "o--", color="tab:green", markersize=8, markerfacecolor="none")[0]
        self.cursor = self.axes.plot([], [], "+", color="tab:red", markersize=14, markeredgewidth=2, animated=True)[0]
        self._background: Any = None
        self.mpl_connect("draw_event", self._drawn)
        self.mpl_connect("button_press_event", self._press)
        self.mpl_connect("motion_notify_event", self._move)
        self.setMinimumSize(220, 240)
        self.lasso = LassoSelector(self.axes, lambda outline: self.outlined.emit(outline), button=[MouseButton.LEFT])
        self.set_lasso(False)

    def set_lasso(self, on: bool) -> None:
        """Draw outlines with the mouse, in place of clicks and drags."""
        self.lasso.set_active(on)

    def show_group(self, points: np.ndarray) -> None:
        """Mark the patches of a group (n, 2)."""
        self.group.set_offsets(points.reshape(-1, 2))
        self.draw_idle()

    def show_plane(self, points: np.ndarray, labels: Sequence[str]) -> None:
        """Show the patches of a map (n, 2)."""
        self.points.set_offsets(points)
        self.axes.set(xlabel=labels[0], ylabel=labels[1])
        for setting, values in ((self.axes.set_xlim, points[:, 0]), (self.axes.set_ylim, points[:, 1])):
            pad = MARGIN * max(float(np.ptp(values)), 1e-6)
            setting(float(values.min()) - pad, float(values.max()) + pad)
        self.draw_idle()

    def show_selected(self, point: Sequence[float], ends: Sequence[Sequence[float]] = ()) -> None:
        """Ring the selected patch, and join the ends of a walk."""
        self.selected.set_offsets([point])
        self.way.set_data([end[0] for end in ends], [end[1] for end in ends])
        self.draw_idle()

    def show_cursor(self, point: Sequence[float]) -> None:
        """Move the cursor."""
        self.cursor.set_data([point[0]], [point[1]])
        if self._background is None:
            self.draw_idle()
            return
        self.restore_region(self._background)
        self.axes.draw_artist(self.cursor)
        self.blit(self.figure.bbox)

    def _drawn(self, event: Any) -> None:
        self._background = self.copy_from_bbox(self.figure.bbox)
        self.axes.draw_artist(self.cursor)

    def _press(self, event: Any) -> None:
        if event.inaxes is self.axes and event.button == 1 and not self.lasso.active:
            x, y = self.axes.transData.inverted().transform((event.x + REACH, event.y + REACH))
            self.pressed.emit(event.xdata, event.ydata, abs(x - event.xdata), abs(y - event.ydata))

    def _move(self, event: Any) -> None:
        if event.inaxes is self.axes and 1 in (event.buttons or ()) and not self.lasso.active:
            self.dragged.emit(event.xdata, event.ydata)


class SlicesView(QWidget):  # type: ignore[misc]
    """The middle slices xy, xz and yz of a density, on one grey scale; z points down in xz, to the right in yz.

    Attributes:
        density: The density that is shown, None before.
    """

    def __init__(self) -> None:
        super().__init__()
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        self.pictures: dict[str, QLabel] = {}
        for column, plane in enumerate(("xy", "xz", "yz")):
            self.pictures[plane], name = QLabel(), QLabel(plane)
            self.pictures[plane].setFixedSize(SIDE, SIDE)
            self.pictures[plane].setToolTip(f"Middle slice {plane} of the decoded patch; all three on one fixed grey scale")
            name.setAlignment(Qt.AlignmentFlag.AlignCenter)
            grid.addWidget(self.pictures[plane], 0, column)
            grid.addWidget(name, 1, column)
        self.caption = note()
        self.caption.setAlignment(Qt.AlignmentFlag.AlignCenter)
        grid.addWidget(self.caption, 2, 0, 1, 3)
        self.density: np.ndarray | None = None

    def show_density(self, density: np.ndarray, limits: tuple[float, float], caption: str) -> None:
        """Show a (z, y, x) density between two grey values, with a caption."""
        self.density = density
        self.caption.setText(caption)
        for plane, values in three_slices(density).items():
            grey = as_bytes(values, limits)
            height, width = grey.shape
            image = QImage(grey.tobytes(), width, height, width, QImage.Format.Format_Grayscale8)
            mode, smooth = Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation
            self.pictures[plane].setPixmap(QPixmap.fromImage(image.copy()).scaled(SIDE, SIDE, mode, smooth))
