"""Controls of the Uncertainty widget."""

from __future__ import annotations

from cryovae.napari_plugin.controls import button, check_box, choice, group, note, row, set_checked, slider, spin_box
from cryovae.napari_plugin.plots import Plot
from cryovae.napari_plugin.uncertainty_model import COLOURS

STEPS = 1000


class Controls:
    """The groups of controls: which mean, the overlay, what fades, and the loop of samples."""

    def __init__(self) -> None:
        self.mean = choice("The restored mean whose standard deviation and samples are shown")
        self.state = note("Open a run folder with a mean, a standard deviation and samples.")
        self.calibration = note()
        self.multiply = button("Multiply", "Add the standard deviation times its error on held-out data as a layer, and use that")
        self.multiply.hide()
        self.restoration = group("Restoration", self.mean, self.calibration, self.multiply, self.state)

        self.cover = check_box(
            "standard deviation over the mean", "Colour the mean by its standard deviation, in grey levels of the tomogram"
        )
        self.opacity = slider(70, 100, "Opacity of the colours, in percent")
        self.colours = choice("Colours from certain to uncertain, 2nd to 98th percentile of the standard deviation", COLOURS)
        self.legend = Plot(
            95, "Colours in grey levels, and in percent of the contrast of the mean, its 0.5th to 99.5th percentile"
        )
        self.overlay = group("Overlay", self.cover, ("Opacity", self.opacity), ("Colours", self.colours), self.legend)

        self.fade = check_box(
            "fade out uncertain voxels",
            "Where the standard deviation is above the level, the mean fades to the grey of the background",
        )
        self.level = slider(
            STEPS // 2, STEPS, "Level of the standard deviation, by the share of the voxels that are kept, in thousandths"
        )
        self.kept = note()
        self.fading = group("Fade", self.fade, self.level, self.kept)

        self.play = check_box(
            "play", "Posterior samples in a loop: what the data determine stands still, what they leave undetermined moves"
        )
        self.speed = spin_box(
            12.0, 0, 60, "Frames per second; 0 pauses, and the viewer's first slider moves through the frames", suffix=" frames/s"
        )
        self.between = spin_box(
            6,
            1,
            20,
            "Frames from one sample to the next; those between are mixtures that are as far from the mean as a sample. "
            "1 shows the samples alone",
            prefix="1 sample in ",
            suffix=" frames",
        )
        self.missing = note()
        self.samples = group("Samples", row(self.play, self.speed), self.between, self.missing)

    def show_calibration(self, text: str, is_off: bool, factor: float | None) -> None:
        """Say how far the standard deviation can be trusted, in red where it cannot; offer a factor, unless it is None."""
        self.calibration.setText(text)
        self.calibration.setStyleSheet("color: #e05252; font-weight: bold;" if is_off else "")
        self.multiply.setVisible(factor is not None)
        self.multiply.setText(f"Multiply by {factor:.2f}" if factor is not None else "")

    def uncheck(self) -> None:
        """Untick all three boxes without emitting signals."""
        for box in (self.cover, self.fade, self.play):
            set_checked(box, False)
