"""Buttons, boxes and sliders of the window for the latent space, each with what it does and its unit."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QGridLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSlider,
    QSpinBox,
    QWidget,
)

from cryovae.posterior.latent_map import MOST

LEVELS = ("automatic", "stride 8 and coarser", "stride 4 and coarser", "stride 2 and coarser", "all, stride 1")
FINEST = (None, 3, 2, 1, 0)


class Controls:
    """The four groups of controls: encoding, dragging, drawing, walking."""

    def __init__(self) -> None:
        self.encoding, self.dragging = QGroupBox("Run"), QGroupBox("Drag")
        self.drawing, self.walking = QGroupBox("Draw"), QGroupBox("Walk")
        self._make_encoding()
        self._make_dragging()
        self._make_drawing()
        self._make_walking()

    def _make_encoding(self) -> None:
        self.run = QComboBox()
        self.run.setEditable(True)
        self.run.setToolTip("Folder of a run of cryovae restore with its model; those of layers in the viewer are listed")
        self.browse = _button("…", "Choose the folder of a run")
        self.levels = QComboBox()
        self.levels.addItems(LEVELS)
        self.levels.setToolTip(
            "Latents that span the plane, by their stride in voxels; automatic: from the coarsest down to where they hold a "
            "quarter of the variance of what is decoded"
        )
        self.most = QSpinBox()
        self.most.setRange(3, 100_000)
        self.most.setValue(MOST)
        self.most.setToolTip("Patches encoded at most; of a larger tomogram, so many evenly chosen ones")
        self.encode = _button("Encode", "Encode the patches, about a quarter of a second each without a GPU")
        self.cancel = _button("Cancel", "Stop encoding")
        grid = QGridLayout(self.encoding)
        grid.addWidget(self.run, 0, 0, 1, 3)
        grid.addWidget(self.browse, 0, 3)
        grid.addWidget(self.levels, 1, 0)
        grid.addWidget(self.most, 1, 1)
        grid.addWidget(self.encode, 1, 2)
        grid.addWidget(self.cancel, 1, 3)
        grid.setColumnStretch(0, 1)

    def _make_dragging(self) -> None:
        self.about = QComboBox()
        self.about.addItems(("about the patch in hand", "about the mean of all patches"))
        self.about.setToolTip(
            "What is kept while the cursor moves in the plane: all else of the patch in hand, finer latents included; "
            "or of the mean of all patches, finer latents at the prior's mean"
        )
        self.pick = QCheckBox("pick in the viewer")
        self.pick.setChecked(True)
        self.pick.setToolTip("A click in the viewer, in 2D, takes the patch about it in hand and marks its point in the plane")
        self.in_viewer = QCheckBox("layer")
        self.in_viewer.setToolTip("Show the decoded patch in the viewer too, where the patch in hand lies; also in 3D")
        _row(self.dragging, self.about, self.pick, self.in_viewer)

    def _make_drawing(self) -> None:
        self.prior = _button(
            "From the prior", "Draw a patch from the model's prior; with two encoders it was not trained to be like the patches"
        )
        self.like = _button("Like the patches", "Draw a patch from the Gaussian of the codes of all patches on the map")
        self.temperature = QDoubleSpinBox()
        self.temperature.setRange(0, 5)
        self.temperature.setSingleStep(0.1)
        self.temperature.setValue(1)
        self.temperature.setPrefix("T ")
        self.temperature.setToolTip("Standard deviation of the draws, no unit; 1 is the distribution itself")
        self.seed = QSpinBox()
        self.seed.setRange(0, 1_000_000)
        self.seed.setPrefix("seed ")
        self.seed.setToolTip("Random seed of the next draw; the same gives the same patch. Counts up by itself")
        _row(self.drawing, self.prior, self.like, self.temperature, self.seed)

    def _make_walking(self) -> None:
        self.start = _button("From", "Begin the walk at the patch in hand")
        self.stop = _button("To", "End the walk at the patch in hand")
        self.way = QSlider(Qt.Orientation.Horizontal)
        self.way.setRange(0, 100)
        self.way.setToolTip("Percent of the way between the two patches, along the sphere of their latents")
        self.ends = QLabel("no ends")
        _row(self.walking, self.start, self.stop, self.way, self.ends)

    @property
    def finest(self) -> int | None:
        """The finest level on the map, None for automatic."""
        return FINEST[self.levels.currentIndex()]

    @property
    def about_held(self) -> bool:
        """Whether the cursor moves about the patch in hand."""
        return bool(self.about.currentIndex() == 0)

    def offer_runs(self, runs: list[str]) -> None:
        """List these runs, keeping what is chosen if something is."""
        chosen = self.run.currentText()
        self.run.clear()
        self.run.addItems(runs)
        if chosen:
            self.run.setCurrentText(chosen)

    def set_running(self, running: bool) -> None:
        """While patches are encoded there is something to cancel, and nothing else to begin."""
        self.encode.setEnabled(not running)
        self.cancel.setEnabled(running)

    def set_ready(self, ready: bool) -> None:
        """Whether there is a map to work on."""
        self.cancel.setEnabled(False)
        for group in (self.dragging, self.drawing, self.walking):
            group.setEnabled(ready)

    def show_ends(self, ends: dict[str, tuple[int, int, int]]) -> None:
        """Name the ends of the walk by their first voxels; the slider works when there are both."""
        self.ends.setText(" → ".join(str(ends[name]) if name in ends else "?" for name in ("from", "to")))
        self.ends.setToolTip("First voxels (z, y, x) of the two patches")
        self.way.setEnabled(len(ends) == 2)


def _button(text: str, tip: str) -> Any:
    button = QPushButton(text)
    button.setToolTip(tip)
    return button


def _row(group: QGroupBox, *widgets: QWidget) -> None:
    row = QHBoxLayout(group)
    for widget in widgets:
        row.addWidget(widget)
