"""Controls of the Compare widget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qtpy.QtWidgets import QButtonGroup, QRadioButton
from superqt.utils import signals_blocked

from cryovae.napari_plugin.controls import button, choice, group, note, row, slider
from cryovae.napari_plugin.plots import Plot

OFF, SWIPE, SIDE = range(3)
MODES = (
    ("off", "The layers of the viewer as they are"),
    ("swipe", "A left of a line and B right of it, in one picture; drag the line, or the slider"),
    ("side by side", "A and B in two cells with one camera and one slice"),
)
CONTRASTS = ("of each layer", "of both, the wider", "of A", "of B")
RECTANGLE, ALL = 1, 2
REGIONS = ("in view", "drawn rectangle", "entire tomogram")
STEPS = 1000
CLICK = "Click a voxel in the viewer to see its place, and its values in input, mean, std and samples."


class Controls:
    """The groups of controls: layers, display, measurement, and one voxel."""

    def __init__(self) -> None:
        self.one = choice("Layer A, shown left; usually the input")
        self.other = choice("Layer B, shown right; usually the restored mean")
        self.swap = button("⇄", "Exchange A and B", 36)
        self.layers = group("Layers", ("A", self.one), ("B", row(self.other, self.swap)))

        # The group does not keep its buttons alive.
        self.mode, radios = QButtonGroup(), [QRadioButton(name) for name, _ in MODES]
        for number, (radio, (_, tip)) in enumerate(zip(radios, MODES, strict=True)):
            radio.setToolTip(tip)
            radio.setChecked(number == OFF)
            self.mode.addButton(radio, number)
        self.cut = slider(STEPS // 2, STEPS, "Where A ends and B begins, in thousandths of the width of the tomogram")
        self.cut.setEnabled(False)
        self.contrast = choice(
            "Grey values from black to white: 0.5th to 99.5th percentile of the slice in view, of both layers or of each",
            CONTRASTS,
            1,
        )
        self.display = group("Show", row(*radios), self.cut, ("Contrast", self.contrast))

        self.region = choice(
            "Part of the tomogram: what is in view, or the last rectangle of a Shapes layer, as deep as it is wide about the "
            "slice shown; at most 256 voxels along a side",
            REGIONS,
        )
        self.measure = button(
            "Measure",
            "Power in the xz plane of A and B in cycles per voxel, with the edges of the missing wedge; and the FSC by spatial "
            "frequency in 1/Å, between the halves of the run if it has halves, else between A and B",
        )
        self.state = note()
        self.spectra = Plot(
            235, "Mean power of the xz slices of A and B; data were measured between the dashed lines along k_x", "compressed"
        )
        self.fsc = Plot(280, "Fourier shell correlation in the region, for the measured part and for the missing wedge")
        self.measurement = group("Spectra and FSC", row(self.region, self.measure), self.state, self.spectra, self.fsc)

        self.text = note(CLICK)
        self.strip = Plot(130, "Values of one voxel in grey levels of the tomogram")
        self.voxel = group("Voxel", self.text, self.strip)

    def offer(self, names: Sequence[str], pair: tuple[str, str] | None) -> None:
        """List layers by their names; the selected two stay if both are still listed, else ``pair`` is selected."""
        before = (self.one.currentText(), self.other.currentText())
        selected = before if all(name in names for name in before) and before[0] != before[1] else pair
        with signals_blocked(self.one), signals_blocked(self.other):
            for box in (self.one, self.other):
                box.clear()
                box.addItems(list(names))
            if selected is not None:
                self.select(*selected)

    def select(self, one: str, other: str) -> None:
        """Select two layers by their names."""
        self.one.setCurrentText(one)
        self.other.setCurrentText(other)

    def set_mode(self, mode: int) -> None:
        """Press one of the three buttons."""
        radio: Any = self.mode.button(mode)
        radio.setChecked(True)
