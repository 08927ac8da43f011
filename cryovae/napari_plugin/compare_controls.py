"""Boxes, buttons and sliders of the window for comparing, each with what it does and its unit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QButtonGroup, QComboBox, QGridLayout, QGroupBox, QLabel, QPushButton, QRadioButton, QSlider

OFF, SWIPE, SIDE = range(3)
RANGES = ("of each by itself", "of both, the wider", "of A", "of B")
REGIONS = ("in view", "drawn rectangle", "whole tomogram")
STEPS = 1000


class Controls:
    """The groups of controls: which layers, how they are shown, and of what region spectra and FSC are."""

    def __init__(self) -> None:
        self.choosing, self.showing, self.measuring = QGroupBox("Layers"), QGroupBox("Show"), QGroupBox("Spectra and FSC")
        self._make_choosing()
        self._make_showing()
        self._make_measuring()

    def _make_choosing(self) -> None:
        self.one, self.other = QComboBox(), QComboBox()
        self.one.setToolTip("Layer A, shown left: what was restored, as a rule")
        self.other.setToolTip("Layer B, shown right: its restoration, as a rule")
        self.swap = QPushButton("⇄")
        self.swap.setToolTip("Exchange A and B")
        self.swap.setMaximumWidth(36)
        grid = QGridLayout(self.choosing)
        for row, (name, box) in enumerate((("A", self.one), ("B", self.other))):
            box.setMinimumWidth(80)
            grid.addWidget(QLabel(name), row, 0)
            grid.addWidget(box, row, 1)
        grid.addWidget(self.swap, 0, 2, 2, 1)
        grid.setColumnStretch(1, 1)

    def _make_showing(self) -> None:
        self.mode = QButtonGroup(self.showing)
        grid = QGridLayout(self.showing)
        names = {OFF: "off", SWIPE: "swipe", SIDE: "side by side"}
        tips = {
            OFF: "The layers of the viewer as they are",
            SWIPE: "A left of a line and B right of it, in one picture; drag the line, or the slider",
            SIDE: "A and B in two cells with one camera and one slice",
        }
        for number, name in names.items():
            button = QRadioButton(name)
            button.setToolTip(tips[number])
            button.setChecked(number == OFF)
            self.mode.addButton(button, number)
            grid.addWidget(button, 0, number)
        self.cut = QSlider(Qt.Orientation.Horizontal)
        self.cut.setRange(0, STEPS)
        self.cut.setValue(STEPS // 2)
        self.cut.setEnabled(False)
        self.cut.setToolTip("Where A ends and B begins, in thousandths of the width of the tomogram")
        self.contrast = QComboBox()
        self.contrast.addItems(RANGES)
        self.contrast.setCurrentIndex(1)
        self.contrast.setToolTip(
            "Grey values from black to white: 0.5th to 99.5th percentile of the slice in view, in grey levels of the tomogram; "
            "one range for both, or each its own"
        )
        grid.addWidget(self.cut, 1, 0, 1, 3)
        grid.addWidget(QLabel("Contrast"), 2, 0)
        grid.addWidget(self.contrast, 2, 1, 1, 2)

    def _make_measuring(self) -> None:
        self.region = QComboBox()
        self.region.addItems(REGIONS)
        self.region.setToolTip(
            "Part of the tomogram: what is in view, or in the last rectangle of a Shapes layer, as deep as it is wide about the "
            "slice shown; at most 256 voxels along a side"
        )
        self.measure = QPushButton("Measure")
        self.measure.setToolTip(
            "Power in the xz plane of A and B in cycles per voxel, with the edges of the missing wedge; and the FSC by spatial "
            "frequency in 1/Å, between the halves of the run if it has some, else between A and B"
        )
        grid = QGridLayout(self.measuring)
        grid.addWidget(self.region, 0, 0)
        grid.addWidget(self.measure, 0, 1)
        grid.setColumnStretch(0, 1)

    def offer(self, names: Sequence[str], pair: tuple[str, str] | None) -> None:
        """List layers by their names; what is chosen stays if it is still there, else ``pair`` is chosen."""
        kept = (self.one.currentText(), self.other.currentText())
        chosen = kept if all(name in names for name in kept) and kept[0] != kept[1] else pair
        for box in (self.one, self.other):
            box.blockSignals(True)
            box.clear()
            box.addItems(list(names))
        if chosen is not None:
            self.choose(*chosen)
        for box in (self.one, self.other):
            box.blockSignals(False)

    def choose(self, one: str, other: str) -> None:
        """Choose two layers by their names."""
        self.one.setCurrentText(one)
        self.other.setCurrentText(other)

    def set_mode(self, mode: int) -> None:
        """Press one of the three buttons."""
        button: Any = self.mode.button(mode)
        button.setChecked(True)
