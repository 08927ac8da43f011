"""The form of the Restore widget. Presets and settings come from RunConfig: their names, defaults and descriptions."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtWidgets import QDoubleSpinBox, QFileDialog, QLineEdit

from cryovae.config import PRESETS, preset
from cryovae.napari_plugin.controls import PathField, button, check_box, choice, group, note, offer, row, spin_box
from cryovae.napari_plugin.plots import Plot
from cryovae.napari_plugin.restore_model import SETTINGS, describe, setting_of

TILT_FILES = "Tilts (*.tlt *.rawtlt *.mdoc *.aln *.xf *.xml *.star);;All files (*)"
LARGEST_NUMBER = 2**31 - 1
# Samples that are written, unless the form says otherwise: the Uncertainty widget plays them.
SAMPLES_OUT = 8


class Controls:
    """The groups of controls: tomogram, model, run and settings."""

    def __init__(self) -> None:
        self._build_tomogram()
        self._build_model()
        self._build_settings()
        self._build_run()

    def _build_tomogram(self) -> None:
        self.halves = check_box(
            "two halves (even and odd)", "Restore from two half tomograms, whose difference is noise; adds an FSC"
        )
        self.first = choice("The tomogram, or its first half: an image layer of three axes, z along the beam")
        self.second = choice("The second half: an image layer of three axes, z along the beam")
        self.tilts = PathField(
            "File of the tilt angles in degrees: .tlt, .mdoc, .aln, .xf, Warp .xml, RELION .star; empty: the range below",
            "range below",
            lambda parent: QFileDialog.getOpenFileName(parent, "Tilt angles", "", TILT_FILES)[0],
        )
        self.lowest = spin_box(-60.0, -90, 90, "Lowest tilt in degrees; ignored if there is a tilt file")
        self.highest = spin_box(60.0, -90, 90, "Highest tilt in degrees; ignored if there is a tilt file")
        for limit in (self.lowest, self.highest):
            limit.setMinimumWidth(60)
            limit.setButtonSymbols(QDoubleSpinBox.ButtonSymbols.NoButtons)
        self.region = check_box(
            "this region only",
            "A quick test: restore the last rectangle of a Shapes layer, or what is in view, about the current slice",
        )
        self.depth = spin_box(64, 8, 4096, "Depth of the region in voxels, about the current slice", suffix=" voxels")
        self.tomogram = group(
            "Tomogram",
            self.halves,
            ("Volume", self.first),
            ("2nd half", self.second),
            ("Tilt file", self.tilts),
            ("Tilts (deg)", row(self.lowest, self.highest)),
            self.region,
            ("Depth", self.depth),
        )

    def _build_model(self) -> None:
        self.preset = choice("Size of patches and networks: quick for a processor, default and large for a GPU", list(PRESETS))
        self.model = PathField(
            "A trained model (.safetensors), or the folder of its run; empty: train one on this tomogram first",
            "train one",
            lambda parent: QFileDialog.getExistingDirectory(parent, "Folder of a run"),
        )
        self.device = choice("auto uses a GPU if there is one", ["auto", "cpu", "cuda"])
        self.training = group("Model", ("Preset", self.preset), ("Model", self.model), ("Device", self.device))

    def _build_settings(self) -> None:
        self.settings = {key: spin_box(0, 0, LARGEST_NUMBER, describe(key)) for key in SETTINGS}
        self.seed = spin_box(0, 0, LARGEST_NUMBER, "Random seed: the same seed gives the same volumes")
        self.more = QLineEdit()
        self.more.setPlaceholderText("training.batch=4 ...")
        self.more.setToolTip("Further settings, as for --set on the command line, separated by spaces")
        rows = [(caption, self.settings[key]) for key, caption in SETTINGS.items()]
        self.advanced = group("Settings", *rows, ("Seed", self.seed), ("More", self.more))
        self.preset.currentTextChanged.connect(self.show_preset)
        self.show_preset()

    def _build_run(self) -> None:
        self.output = PathField(
            "Folder for the results and the record of the run",
            "restored",
            lambda parent: QFileDialog.getExistingDirectory(parent, "Folder for the results"),
        )
        self.run = button(
            "Run", "Restore in a process beside napari, after training if there is no model; replaces earlier results"
        )
        self.cancel = button("Cancel", "Save the state and stop; Resume continues from there, as does cryovae restore --resume")
        self.resume = button("Resume", "Continue the run in the folder with the settings it began with")
        self.force = check_box(
            "go on although a check refuses", "As --force: run in spite of what the checks of the input refuse"
        )
        self.state = note()
        self.losses = Plot(150, "Training losses in nats per Fourier coefficient; the gain is on data that the model did not see")
        self.running = group(
            "Run", ("Folder", self.output), row(self.run, self.cancel, self.resume), self.force, self.state, self.losses
        )

    def show_preset(self, *ignored: object) -> None:
        """Set the settings of the form to those of the preset."""
        config = preset(self.preset.currentText())
        for key, box in self.settings.items():
            box.setValue(setting_of(config, key))
        self.settings["restoration.samples_out"].setValue(SAMPLES_OUT)

    def offer(self, names: Sequence[str]) -> None:
        """List layers by their names; the selected ones stay if they are still listed."""
        for number, box in enumerate((self.first, self.second)):
            offer(box, names, names[min(number, len(names) - 1)] if names else None)

    def allow(self, running: bool, resumable: bool) -> None:
        """Enable what may be pressed."""
        self.run.setEnabled(not running)
        self.cancel.setEnabled(running)
        self.resume.setEnabled(resumable and not running)
        self.second.setEnabled(self.halves.isChecked())
        self.depth.setEnabled(self.region.isChecked())
