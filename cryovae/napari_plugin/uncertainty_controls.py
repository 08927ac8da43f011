"""Boxes and sliders of the window for doubt, each with what it does and its unit."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QComboBox, QDoubleSpinBox, QGridLayout, QGroupBox, QLabel, QSlider, QSpinBox, QVBoxLayout

from cryovae.napari_plugin.uncertainty_canvas import Legend
from cryovae.napari_plugin.uncertainty_model import COLOURS

STEPS = 1000


class Controls:
    """The groups of controls: which mean, the overlay, what fades, and the loop."""

    def __init__(self) -> None:
        self.choosing, self.covering = QGroupBox("Restoration"), QGroupBox("Overlay")
        self.fading, self.playing = QGroupBox("Fade"), QGroupBox("Samples")
        self._make_choosing()
        self._make_covering()
        self._make_fading()
        self._make_playing()

    def _make_choosing(self) -> None:
        self.mean = QComboBox()
        self.mean.setMinimumWidth(80)
        self.mean.setToolTip("The restored mean whose standard deviation and samples are looked at")
        self.state = QLabel("Open a run folder: its mean, standard deviation and samples.")
        self.state.setWordWrap(True)
        column = QVBoxLayout(self.choosing)
        column.addWidget(self.mean)
        column.addWidget(self.state)

    def _make_covering(self) -> None:
        self.cover = QCheckBox("standard deviation over the mean")
        self.cover.setToolTip("Colour the mean by its standard deviation, in grey levels of the tomogram")
        self.opacity = _slider(100, 70, "Opacity of the colours, in percent")
        self.colours = QComboBox()
        self.colours.addItems(COLOURS)
        self.colours.setToolTip("Colours from certain to uncertain, 2nd to 98th percentile of the standard deviation")
        self.legend = Legend()
        self.legend.setToolTip(
            "Colours in grey levels, and in percent of the contrast of the mean, its 0.5th to 99.5th percentile"
        )
        self.legend.hide()
        grid = QGridLayout(self.covering)
        grid.addWidget(self.cover, 0, 0, 1, 2)
        grid.addWidget(QLabel("Opacity"), 1, 0)
        grid.addWidget(self.opacity, 1, 1)
        grid.addWidget(QLabel("Colours"), 2, 0)
        grid.addWidget(self.colours, 2, 1)
        grid.addWidget(self.legend, 3, 0, 1, 2)
        grid.setColumnStretch(1, 1)

    def _make_fading(self) -> None:
        self.fade = QCheckBox("fade out what is less certain")
        self.fade.setToolTip("Where the standard deviation is over the level the mean goes to the grey of the background")
        self.level = _slider(
            STEPS, STEPS // 2, "Level of the standard deviation, by the share of the voxels that are kept, in thousandths"
        )
        self.kept = QLabel("")
        self.kept.setWordWrap(True)
        column = QVBoxLayout(self.fading)
        for part in (self.fade, self.level, self.kept):
            column.addWidget(part)

    def _make_playing(self) -> None:
        self.play = QCheckBox("play")
        self.play.setToolTip("Samples of the posterior in a loop: what the data hold stands still, what they leave free moves")
        self.speed = QDoubleSpinBox()
        self.speed.setRange(0, 60)
        self.speed.setValue(12)
        self.speed.setSuffix(" frames/s")
        self.speed.setToolTip("Frames a second; 0 pauses, and the viewer's first slider moves through the frames by hand")
        self.between = QSpinBox()
        self.between.setRange(1, 20)
        self.between.setValue(6)
        self.between.setPrefix("1 sample in ")
        self.between.setSuffix(" frames")
        self.between.setToolTip(
            "Frames from one sample to the next; those between are mixed so that they lie as far from the mean as a sample does. "
            "1 shows the samples alone"
        )
        self.lack = QLabel("")
        self.lack.setWordWrap(True)
        grid = QGridLayout(self.playing)
        grid.addWidget(self.play, 0, 0)
        grid.addWidget(self.speed, 0, 1)
        grid.addWidget(self.between, 1, 0, 1, 2)
        grid.addWidget(self.lack, 2, 0, 1, 2)

    def offer(self, names: Sequence[str]) -> None:
        """List means by their names; what is chosen stays if it is still there, else the last is chosen."""
        kept = self.mean.currentText()
        self.mean.blockSignals(True)
        self.mean.clear()
        self.mean.addItems(list(names))
        if names:
            self.mean.setCurrentText(kept if kept in names else names[-1])
        self.mean.blockSignals(False)

    def release(self) -> None:
        """Take all three ticks out, without a word to anybody."""
        for box in (self.cover, self.fade, self.play):
            box.blockSignals(True)
            box.setChecked(False)
            box.blockSignals(False)


def _slider(steps: int, value: int, tip: str) -> QSlider:
    slider = QSlider(Qt.Orientation.Horizontal)
    slider.setRange(0, steps)
    slider.setValue(value)
    slider.setToolTip(tip)
    return slider
