"""The form of the Restore widget: common fields first, all other options of ``cryovae restore`` in groups that unfold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from qtpy.QtWidgets import QFileDialog, QListWidget

from cryovae.config import RunConfig
from cryovae.napari_plugin.controls import PathField, button, check_box, choice, folded, group, note, offer, row, spin_box
from cryovae.napari_plugin.option_control import OptionControl
from cryovae.napari_plugin.plots import Plot
from cryovae.napari_plugin.restore_fields import (
    COMPUTING,
    FIELDS,
    GEOMETRY,
    MODEL,
    OPTICS,
    RESTORING,
    TOMOGRAM,
    TRAINING,
)

# Settings that a preset decides: option, and its key in RunConfig.
OF_PRESET = {
    "steps": "training.steps",
    "patch": "training.patch",
    "batch": "training.batch",
    "learning_rate": "training.learning_rate",
    "beta": "objective.beta",
    "seed": "training.seed",
    "samples": "restoration.samples",
    "outputs": "restoration.outputs",
}
NO_WEDGE_YET = "Show the spectrum to see whether the wedge of these tilts is that of the file."


class Controls:
    """The groups of the form, from the top: tomogram, model, run, and those that unfold.

    Attributes:
        options: The controls of the options, by their names.
        changed: Called when the form has changed.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self.changed = changed
        self.options = {field.name: OptionControl(field, changed) for field in FIELDS}
        self._build_tomogram()
        self._build_run()
        self._build_groups()

    def _rows(self, title: str) -> list[Any]:
        """The options of a group as rows; a switch has its caption beside it."""
        fields = [field for field in FIELDS if field.group == title]
        return [self.options[f.name] if f.is_switch else (f.caption, self.options[f.name]) for f in fields]

    def _build_tomogram(self) -> None:
        self.halves = check_box(
            "two halves (even and odd)", "Restore from two half tomograms, whose difference is noise; adds an FSC"
        )
        self.first = choice("The tomogram, or its first half: an image layer of three axes, z along the beam")
        self.second = choice("The second half: an image layer of three axes, z along the beam")
        self.output = PathField(
            "Folder for the results and the record of the run. Each run gets a folder of its own",
            "restored",
            lambda parent: QFileDialog.getExistingDirectory(parent, "Folder for the results"),
        )
        self.tomogram = group(
            "Tomogram",
            self.halves,
            ("Volume", self.first),
            ("2nd half", self.second),
            *self._rows(TOMOGRAM),
            *self._rows(MODEL),
            ("Folder", self.output),
        )

    def _build_run(self) -> None:
        self.run = button("Run", "Restore in a process beside napari, after training if there is no model")
        self.cancel = button("Cancel", "Save the state and stop; Resume continues from there, as does cryovae restore --resume")
        self.resume = button("Resume", "Continue the run in the folder with the settings it began with")
        self.estimate = note()
        self.command = button("Show command", "Copy the same run as a line for a shell, and show it here")
        self.queue_one = button("Add to queue", "Run this form after the runs that are going on or waiting")
        self.line = note()
        self.line.hide()
        self.state = note()
        self.losses = Plot(150, "Training losses in nats per Fourier coefficient; the gain is on data that the model did not see")
        self.running = group(
            "Run",
            self.estimate,
            row(self.run, self.cancel, self.resume),
            row(self.command, self.queue_one),
            self.line,
            self.state,
            self.losses,
        )

    def _build_groups(self) -> None:
        self.spectrum = button("Show spectrum and wedge", "Draw the power of the file with the edges of the wedge of these tilts")
        self.wedge = Plot(230, "Mean power of the xz slices of the file; data were measured between the dashed lines along k_x")
        self.wedge_words = note(NO_WEDGE_YET)
        self.geometry = folded(GEOMETRY, *self._rows(GEOMETRY), self.spectrum, self.wedge, self.wedge_words)
        self.optics = folded(OPTICS, *self._rows(OPTICS))
        self.training = folded(TRAINING, *self._rows(TRAINING))
        self.restoring = folded(RESTORING, *self._rows(RESTORING))
        self.computing = folded(COMPUTING, *self._rows(COMPUTING))
        self.region = check_box(
            "this region only",
            "A quick test: restore the last rectangle of a Shapes layer, or what is in view, about the current slice",
        )
        self.depth = spin_box(64, 8, 4096, "Depth of the region in voxels, about the current slice", suffix=" voxels")
        self.table = PathField(
            "A STAR table of tomograms, of IsoNet, RELION or cryovae star import; it takes the place of the layers",
            "none: the layers above",
            lambda parent: QFileDialog.getOpenFileName(parent, "Table of tomograms", "", "STAR (*.star);;All files (*)")[0],
        )
        self.queue_all = button(
            "Queue all open tomograms", "One run for each tomogram of the viewer with the settings of this form and its own tilts"
        )
        self.waiting = QListWidget()
        self.waiting.setMaximumHeight(90)
        self.waiting.setToolTip("Runs that wait, the next one first")
        self.unqueue = button("Remove from queue", "Take the selected run out of the queue")
        self.several = folded(
            "Region, table and queue",
            row(self.region, self.depth),
            ("Table", self.table),
            self.queue_all,
            self.waiting,
            self.unqueue,
        )
        self.groups = (
            self.several,
            self.geometry,
            self.optics,
            self.training,
            self.restoring,
            self.computing,
        )

    def values(self) -> dict[str, Any]:
        """The values of the options that were given. InputError for what is no value of its option."""
        return {name: value for name, control in self.options.items() if (value := control.value) is not None}

    def show_preset(self, config: RunConfig) -> None:
        """Say in the empty lines what the preset decides."""
        for name, key in OF_PRESET.items():
            section, _, setting = key.partition(".")
            value = getattr(getattr(config, section), setting)
            shown = ",".join(value) if isinstance(value, (tuple, list)) else f"{value:g}"
            self.options[name].hint(f"{shown} (preset)")
        kept = config.restoration.samples if config.objective.variational else 0
        self.options["samples_out"].hint(f"{min(8, kept)}")

    def offer(self, names: Sequence[str]) -> None:
        """List layers by their names; the selected ones stay if they are still listed."""
        for number, box in enumerate((self.first, self.second)):
            offer(box, names, names[min(number, len(names) - 1)] if names else None)

    def show_queue(self, lines: Sequence[str]) -> None:
        """List the runs that wait."""
        self.waiting.clear()
        self.waiting.addItems(list(lines))
        if lines:
            self.several.expand()

    def allow(self, running: bool, resumable: bool) -> None:
        """Enable what may be pressed."""
        self.run.setEnabled(not running)
        self.cancel.setEnabled(running)
        self.resume.setEnabled(resumable and not running)
        self.second.setEnabled(self.halves.isChecked())
        self.depth.setEnabled(self.region.isChecked())
        self.unqueue.setEnabled(self.waiting.count() > 0)
