"""The form of the Restore widget: what is restored, how, and where to; and the plot of what training has reached."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib import rc_context
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSpinBox,
    QWidget,
)

from cryovae.napari_plugin.compare_canvas import SMALL, Plot

HEIGHT = 150
TILTS = "Tilts (*.tlt *.rawtlt *.mdoc *.aln *.xf *.xml *.star);;All files (*)"


class Losses(Plot):
    """What is trained, in nats per coefficient, and the gain on held-out patches, against the steps."""

    def __init__(self) -> None:
        super().__init__(HEIGHT)

    def show_losses(self, found: dict[str, list[tuple[int, float]]]) -> None:
        """Draw one line for each name."""
        self.figure.clear()
        with rc_context(SMALL):
            axis = self.figure.add_subplot()
            for name, points in found.items():
                axis.plot(*zip(*points, strict=True), marker="." if len(points) < 12 else "", label=name)
            axis.set(xlabel="training step", ylabel="nats per coefficient")
            if found:
                axis.legend(frameon=False)
        self.draw_idle()


class PathField(QWidget):  # type: ignore[misc]
    """A line for a path, and a button that looks for it."""

    def __init__(self, tip: str, hint: str, choose: Callable[[QWidget], str]) -> None:
        super().__init__()
        self.line = QLineEdit()
        self.line.setPlaceholderText(hint)
        self.line.setToolTip(tip)
        button = QPushButton("...")
        button.setMaximumWidth(30)
        button.setToolTip(tip)
        button.clicked.connect(lambda: self._take(choose(self)))
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.line)
        row.addWidget(button)

    def _take(self, found: str) -> None:
        if found:
            self.line.setText(found)

    @property
    def path(self) -> Path | None:
        """What stands in the line, None if nothing does."""
        text = self.line.text().strip()
        return Path(text).expanduser() if text else None


class Controls:
    """The groups of controls: the tomogram, the model, what is advanced, and the run."""

    def __init__(self) -> None:
        self.choosing, self.training = QGroupBox("Tomogram"), QGroupBox("Model")
        self.advanced, self.running = QGroupBox("Settings"), QGroupBox("Run")
        self._make_choosing()
        self._make_training()
        self._make_advanced()
        self._make_running()

    def _make_choosing(self) -> None:
        self.halves = QCheckBox("two halves (even and odd)")
        self.halves.setToolTip("Restore from two half tomograms: their difference tells the noise, and an FSC becomes possible")
        self.first, self.second = QComboBox(), QComboBox()
        for box, tip in ((self.first, "The tomogram, or its first half"), (self.second, "The second half")):
            box.setMinimumWidth(80)
            box.setToolTip(tip + ": an image layer of three axes, z along the beam")
        self.tilts = PathField(
            "File of the tilt angles in degrees: .tlt, .mdoc, .aln, .xf, Warp .xml, RELION .star; empty: the range below",
            "range below",
            lambda parent: QFileDialog.getOpenFileName(parent, "Tilt angles", "", TILTS)[0],
        )
        self.lowest, self.highest = _tilt(-60.0, "Lowest"), _tilt(60.0, "Highest")
        limits = QWidget()
        row = QHBoxLayout(limits)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.lowest)
        row.addWidget(self.highest)
        self.region = QCheckBox("this region only")
        self.region.setToolTip(
            "A look before the night's run: the last rectangle of a shapes layer, or what the view shows, about the current slice"
        )
        self.depth = _number(8, 4096, 64, "Depth of the region in voxels, about the current slice", " voxels")
        form = QFormLayout(self.choosing)
        form.addRow(self.halves)
        form.addRow("Volume", self.first)
        form.addRow("2nd half", self.second)
        form.addRow("Tilt file", self.tilts)
        form.addRow("Tilts (deg)", limits)
        form.addRow(self.region)
        form.addRow("Depth", self.depth)

    def _make_training(self) -> None:
        self.preset = QComboBox()
        self.preset.addItems(["quick", "default", "large"])
        self.preset.setToolTip("Patches of 40, 64 or 96 voxels and networks to match: quick for a processor, default for a GPU")
        self.model = PathField(
            "A trained model (.safetensors), or the folder of its run; empty: train one on this tomogram first",
            "train one",
            lambda parent: QFileDialog.getExistingDirectory(parent, "Folder of a run"),
        )
        self.device = QComboBox()
        self.device.addItems(["auto", "cpu", "cuda"])
        self.device.setToolTip("auto takes a GPU where there is one")
        form = QFormLayout(self.training)
        form.addRow("Preset", self.preset)
        form.addRow("Model", self.model)
        form.addRow("Device", self.device)

    def _make_advanced(self) -> None:
        self.steps = _number(0, 1_000_000, 0, "Training steps at most; 0: as the preset says", " steps")
        self.steps.setSpecialValueText("steps of the preset")
        self.samples = _number(2, 64, 8, "Posterior samples behind mean and standard deviation, an even number", " samples")
        self.samples.setSingleStep(2)
        self.kept = _number(0, 64, 8, "How many samples are written, for Doubt to play", " of them kept")
        self.seed = _number(0, 2**31 - 1, 0, "Random seed: the same one gives the same volumes", "")
        self.settings = QLineEdit()
        self.settings.setPlaceholderText("training.batch=4 ...")
        self.settings.setToolTip("Further settings, as for --set on the command line, parted by blanks")
        form = QFormLayout(self.advanced)
        form.addRow("Training", self.steps)
        form.addRow("Samples", self.samples)
        form.addRow("", self.kept)
        form.addRow("Seed", self.seed)
        form.addRow("Further", self.settings)

    def _make_running(self) -> None:
        self.output = PathField(
            "Folder for the results and the record of the run",
            "restored",
            lambda parent: QFileDialog.getExistingDirectory(parent, "Folder for the results"),
        )
        self.run, self.cancel, self.resume = QPushButton("Run"), QPushButton("Cancel"), QPushButton("Resume")
        self.run.setToolTip("Train if there is no model, and restore, beside napari; results in the folder are replaced")
        self.cancel.setToolTip("Save the state and stop; Resume goes on from there, as does cryovae restore --resume")
        self.resume.setToolTip("Go on with the run in the folder, with the settings it began with")
        buttons = QWidget()
        row = QHBoxLayout(buttons)
        row.setContentsMargins(0, 0, 0, 0)
        for button in (self.run, self.cancel, self.resume):
            row.addWidget(button)
        self.state = QLabel("")
        self.state.setWordWrap(True)
        self.losses = Losses()
        self.losses.setToolTip(
            "What training has reached, in nats per Fourier coefficient; the gain is on data hidden from the model"
        )
        self.losses.hide()
        form = QFormLayout(self.running)
        form.addRow("Folder", self.output)
        form.addRow(buttons)
        form.addRow(self.state)
        form.addRow(self.losses)

    def offer(self, names: Sequence[str]) -> None:
        """List layers by their names; what is chosen stays if it is still there."""
        for number, box in enumerate((self.first, self.second)):
            kept = box.currentText()
            box.blockSignals(True)
            box.clear()
            box.addItems(list(names))
            if names:
                box.setCurrentText(kept if kept in names else names[min(number, len(names) - 1)])
            box.blockSignals(False)

    def allow(self, running: bool, resumable: bool) -> None:
        """What may be pressed."""
        self.run.setEnabled(not running)
        self.cancel.setEnabled(running)
        self.resume.setEnabled(resumable and not running)
        self.second.setEnabled(self.halves.isChecked())
        self.depth.setEnabled(self.region.isChecked())


def _tilt(value: float, which: str) -> QDoubleSpinBox:
    box = QDoubleSpinBox()
    box.setRange(-90, 90)
    box.setDecimals(1)
    box.setValue(value)
    box.setMinimumWidth(60)
    box.setButtonSymbols(QDoubleSpinBox.ButtonSymbols.NoButtons)
    box.setToolTip(f"{which} tilt in degrees; not looked at where a file is given")
    return box


def _number(low: int, high: int, value: int, tip: str, suffix: str) -> QSpinBox:
    box = QSpinBox()
    box.setRange(low, high)
    box.setValue(value)
    box.setSuffix(suffix)
    box.setToolTip(tip)
    return box
