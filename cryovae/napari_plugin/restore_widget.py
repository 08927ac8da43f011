"""Restore tomograms from the window: a form, runs in a process beside napari one after another, and results as layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication, QMessageBox

from cryovae.checkpoint import STATE
from cryovae.errors import InputError
from cryovae.evaluation.region import Box
from cryovae.napari_plugin.contents import tilt_file_beside
from cryovae.napari_plugin.dock_widget import DockWidget
from cryovae.napari_plugin.layers import about, density_of
from cryovae.napari_plugin.notices import reported, reporting, show
from cryovae.napari_plugin.plots import draw_losses, draw_wedge
from cryovae.napari_plugin.regions import box_within, last_rectangle, voxel_in_view
from cryovae.napari_plugin.restore_controls import NO_WEDGE_YET, Controls
from cryovae.napari_plugin.restore_form import FormEstimate
from cryovae.napari_plugin.restore_job import INTERRUPTED, Job
from cryovae.napari_plugin.restore_model import (
    INPUTS,
    Request,
    arguments_of,
    checked,
    command_of,
    halves_among,
    holds_results,
    is_resumable,
    is_volume,
    limits_of,
    next_folder,
    tomograms_among,
)
from cryovae.napari_plugin.restore_results import ResultLayers
from cryovae.napari_plugin.restore_wedge import WedgeCheck, check_wedge
from cryovae.napari_plugin.temporary_layers import is_temporary

if TYPE_CHECKING:
    from napari.viewer import Viewer

# Milliseconds between two looks at the run.
INTERVAL = 500
REPLACE, NEW_FOLDER, CANCEL = "replace", "new folder", "cancel"


def ask_about(folder: Path, other: Path) -> str:
    """Ask what to do with a folder that holds results: REPLACE, NEW_FOLDER or CANCEL."""
    question = QMessageBox()
    question.setWindowTitle("Results are there already")
    question.setText(f"{folder} holds results already.")
    question.setInformativeText(f"Replace deletes nothing else, but the earlier results are lost. A new folder would be {other}.")
    new = question.addButton(f"New folder {other.name}", QMessageBox.ButtonRole.AcceptRole)
    replacing = question.addButton("Replace", QMessageBox.ButtonRole.DestructiveRole)
    question.addButton(QMessageBox.StandardButton.Cancel)
    question.setDefaultButton(new)
    question.exec()
    pressed: Any = question.clickedButton()
    return NEW_FOLDER if pressed is new else REPLACE if pressed is replacing else CANCEL


class RestoreWidget(DockWidget):
    """The dock widget.

    Attributes:
        controls: The form.
        job: The current run, or the last one; None before there was one.
        waiting: Requests that run after it.
        ended: One line for each run of the queue that has ended.
        timer: Updates what is shown of the run.
        results: The layers of the run.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        self.job: Job | None = None
        self.waiting: list[Request] = []
        self.ended: list[str] = []
        self._request: Request | None = None
        self._bar: Any = None
        self._warned = False
        self._losses: dict[str, list[tuple[int, float]]] = {}
        self._filled = ""
        self.timer = QTimer(self)
        self.timer.setInterval(INTERVAL)
        self.timer.timeout.connect(self.look)
        self.results = ResultLayers(self.viewer, self)
        self._estimate = FormEstimate(self, self.request)
        self.controls = c = Controls(self._estimate.changed)
        self._estimate.watch(c)
        self.stack(c.tomogram, c.running, *c.groups)
        c.run.clicked.connect(lambda: self.begin())
        c.resume.clicked.connect(lambda: self.begin(resume=True))
        c.cancel.clicked.connect(lambda: self.cancel())
        c.command.clicked.connect(lambda: self.show_command())
        c.queue_one.clicked.connect(lambda: self.enqueue())
        c.queue_all.clicked.connect(lambda: self.enqueue_all())
        c.unqueue.clicked.connect(lambda: self._unqueue())
        c.spectrum.clicked.connect(lambda: self.show_wedge())
        for box in (c.halves, c.region):
            box.toggled.connect(lambda on: self._changed())
        c.first.currentTextChanged.connect(lambda name: self._fill_in())
        for line in (c.output.line, c.table.line):
            line.textChanged.connect(lambda text: self._changed())
        self.listen(self._list_layers, self.viewer.layers.events.inserted, self.viewer.layers.events.removed)
        self._list_layers()

    def _changed(self) -> None:
        self._allow()
        self._estimate.changed()

    def _list_layers(self, event: Any = None) -> None:
        """Offer the volumes of the viewer; at first a pair of halves is selected if there is one."""
        volumes = [layer for layer in self.viewer.layers if is_volume(layer) and not is_temporary(layer)]
        c, pair = self.controls, halves_among(volumes)
        first = not c.first.count()
        c.offer([layer.name for layer in volumes])
        if first and pair:
            c.halves.setChecked(True)
            c.first.setCurrentText(pair[0].name)
            c.second.setCurrentText(pair[1].name)
        if first:
            self._fill_in()
        self._warn_of_removed()
        self._allow()

    def _warn_of_removed(self) -> None:
        """Say once that a layer of the current run was removed."""
        if self._request is None or self.job is None or not self.job.running or self._warned:
            return
        if any(layer not in self.viewer.layers for layer in self._request.volumes):
            self._warned = True
            show(f"a layer of the run was removed: the run continues, its results come from {self._request.output}")

    def _fill_in(self) -> None:
        """Fill in the tilts and the folder that belong to the selected layer."""
        layer, c = self._layer(self.controls.first.currentText()), self.controls
        if layer is None:
            return
        tilts, limits = _tilts_of(layer)
        c.options["tilts"].put(tilts)
        if limits:
            c.options["tilt_range"].put(limits)
        elif not c.options["tilt_range"].text:
            c.options["tilt_range"].put("-60 60")
        if c.output.line.text() == self._filled:
            self._fill_folder(_folder_of(layer))
        self._changed()

    def _fill_folder(self, folder: Path) -> None:
        """Propose a folder; while the user leaves it as it is, each run gets the next one."""
        self._filled = str(next_folder(folder, self._folders()))
        self.controls.output.line.setText(self._filled)

    def _folders(self) -> list[Path]:
        current = [self._request] if self._request is not None and self.job is not None and self.job.running else []
        return [request.output for request in (*current, *self.waiting)]

    def _layer(self, name: str) -> Any | None:
        return next((layer for layer in self.viewer.layers if layer.name == name), None)

    def _allow(self) -> None:
        running = self.job is not None and self.job.running
        output = self.controls.output.path
        self.controls.allow(running, output is not None and is_resumable(output))

    def request(self) -> Request:
        """The request of the form. InputError if it cannot be run."""
        return checked(self._unchecked())

    def _unchecked(self) -> Request:
        c = self.controls
        if c.output.path is None:
            raise InputError("no folder for the results found, expected one: choose it under Tomogram")
        options = c.values()
        if c.table.path is not None:
            options.pop("tilts", None)
            return Request((), c.output.path, options, table=c.table.path)
        if options.get("tilts"):
            options.pop("tilt_range", None)
        names = [c.first.currentText(), c.second.currentText()][: 2 if c.halves.isChecked() else 1]
        if c.halves.isChecked() and (c.first.count() < 2 or names[0] == names[1]):
            raise InputError("two halves chosen, but there is one layer to take them from: open the other half, or untick halves")
        request = Request(tuple(self._layer(name) for name in names), c.output.path, options)
        if c.region.isChecked() and request.volumes[0] is not None:
            request = replace(request, box=self._box(request.volumes[0], request.config().training.patch))
        return request

    def _box(self, layer: Any, patch: int) -> Box:
        """The last rectangle of a Shapes layer, or what is in view, about the current slice; at least a patch if it fits."""
        corners = last_rectangle(self.viewer, layer)
        if corners is None:
            corners = np.asarray([corner[-3:] for corner in layer.corner_pixels], dtype=float)
        middle, depth = voxel_in_view(self.viewer, layer)[0], self.controls.depth.value()
        corners[:, 0] = middle - depth / 2, middle + depth / 2
        shape = density_of(layer).shape
        return box_within(corners[0].tolist(), corners[1].tolist(), shape, min(patch, *shape))

    # Before a run

    def halt_estimate(self) -> None:
        """Keep the present estimate until the form changes."""
        self._estimate.halt()

    @reported
    def show_wedge(self) -> None:
        """Draw the spectrum of the file beside the wedge of the form, in a thread."""
        if self.worker is None:
            self.controls.spectrum.setEnabled(False)
            self.controls.wedge_words.setText("Measuring the spectrum …")
            self.start_thread(check_wedge, self._unchecked(), done=self._show_wedge)

    def _show_wedge(self, check: WedgeCheck) -> None:
        draw_wedge(self.controls.wedge, check.power, check.tilts)
        self.controls.wedge_words.setText(" ".join(check.words))
        self.controls.wedge_words.setStyleSheet("" if check.agrees else "color: #e05252;")

    def work_ended(self) -> None:
        """The spectrum can be drawn again."""
        self.controls.spectrum.setEnabled(True)
        if self.controls.wedge_words.text().startswith("Measuring"):
            self.controls.wedge_words.setText(NO_WEDGE_YET)

    @reported
    def show_command(self) -> None:
        """Copy the run as a line for a shell; what it reads and no file holds yet is written first."""
        request = self.request()
        overwrite = holds_results(request.output)
        line = command_of(arguments_of(request, overwrite=overwrite))
        clipboard: Any = QApplication.clipboard()
        clipboard.setText(line)
        notes = ["Copied:", line]
        if (request.output / INPUTS).is_dir():
            notes.append(f"What no file held is written to {request.output / INPUTS}.")
        if overwrite:
            notes.append("It replaces the results in that folder.")
        self.controls.line.setText("\n".join(notes))
        self.controls.line.show()

    def _placed(self, request: Request) -> tuple[Request, bool] | None:
        """The request with the folder that it may write, and whether it replaces results; None if the user cancels."""
        in_use = self._folders()
        if request.output not in in_use and not holds_results(request.output):
            return request, False
        other = next_folder(request.output, in_use)
        own = self.controls.output.line.text() == self._filled or request.output in in_use
        wish = NEW_FOLDER if own else ask_about(request.output, other)
        if wish == CANCEL:
            return None
        return (request, True) if wish == REPLACE else (replace(request, output=other), False)

    @reported
    def begin(self, resume: bool = False) -> None:
        """Start the run that the form asks for."""
        if self.job is not None and self.job.running:
            return
        request = self.request()
        placed = (request, False) if resume else self._placed(request)
        if placed is None:
            return
        request, overwrite = placed
        self._filled = self._filled if self.controls.output.line.text() != self._filled else str(request.output)
        self.controls.output.line.setText(str(request.output))
        self._start(request, arguments_of(request, resume, overwrite))

    def _start(self, request: Request, words: Sequence[str]) -> None:
        from napari.utils import progress

        job = Job(words, request.output)
        job.begin()
        self._request, self.job, self._warned = request, job, False
        self.results.begin()
        self._bar = progress(total=0, desc="cryovae: starting")
        self.controls.losses.hide()
        self.timer.start()
        self.look()

    # The queue

    @reported
    def enqueue(self) -> None:
        """Run the form after what is running or waiting."""
        self._wait(self.request())

    @reported
    def enqueue_all(self) -> None:
        """One run for each tomogram of the viewer, with its own tilts and folder."""
        volumes = [layer for layer in self.viewer.layers if is_volume(layer) and not is_temporary(layer)]
        values = self.controls.values()
        requests = []
        for layers in tomograms_among(volumes):
            tilts, limits = _tilts_of(layers[0])
            options = {name: value for name, value in values.items() if name not in ("tilts", "tilt_range", "mask", "tilts2")}
            if tilts:
                options["tilts"] = [Path(tilts)]
            else:
                options["tilt_range"] = _two(limits) if limits else values.get("tilt_range", (-60.0, 60.0))
            requests.append(checked(Request(layers, _folder_of(layers[0]), options)))
        if not requests:
            raise InputError("no tomogram found in the viewer, expected one or more: open them with File > Open")
        for request in requests:
            self._wait(replace(request, output=next_folder(request.output, self._folders())))

    def _wait(self, request: Request) -> None:
        placed = self._placed(request)
        if placed is None:
            return
        request, overwrite = placed
        if overwrite:
            raise InputError(f"{request.output} holds results, and a queue replaces none: choose another folder, or press Run")
        self.waiting.append(request)
        self._show_queue()
        if self.controls.output.line.text() == self._filled:
            self._fill_folder(request.output)
        if self.job is None or not self.job.running:
            self._next()

    def _next(self) -> None:
        """Start the first run that waits; what cannot begin is said, and the one after it begins."""
        while self.waiting and (self.job is None or not self.job.running):
            request = self.waiting.pop(0)
            self._show_queue()
            try:
                request = replace(request, output=next_folder(request.output, self._folders()))
                self._start(request, arguments_of(checked(request)))
            except (InputError, OSError) as error:
                self.ended.append(f"{request.name}: {error}")
                show(f"{request.name}: {error}")

    def _unqueue(self) -> None:
        row = max(self.controls.waiting.currentRow(), 0)
        if self.waiting:
            del self.waiting[row]
        self._show_queue()

    def _show_queue(self) -> None:
        self.controls.show_queue([f"{request.name} → {request.output}" for request in self.waiting])
        self._allow()

    # A run

    def cancel(self) -> None:
        """Ask the run to save its state and end."""
        if self.job is not None:
            self.job.stop()
            self.controls.state.setText("Saving the state, and stopping ...")

    def look(self) -> None:
        """Show how far the run is; at its end its results, or why there are none."""
        job, request = self.job, self._request
        if job is None or request is None:
            return
        code = job.ended
        if not job.stopping:
            self._show_state(job)
        losses = job.losses()
        if losses and losses != self._losses:
            self._losses = losses
            draw_losses(self.controls.losses, losses)
        with reporting():
            self.results.show_preview(job.live(), request)
        if code is not None:
            self.timer.stop()
            self._bar.close()
            self._end(job, request, code)
            if not job.stopping:
                self._next()
        self._allow()

    def _show_state(self, job: Job) -> None:
        state = job.state()
        left = f", {state.remaining} left" if state.remaining else ""
        self.controls.state.setText(f"{state.phase} {state.done} of {state.total}{left}" if state.total else f"{state.phase} ...")
        self._bar.set_description(f"cryovae: {state.phase}{left}")
        self._bar.total, self._bar.n = state.total, state.done
        self._bar.refresh()

    def _end(self, job: Job, request: Request, code: int) -> None:
        self.results.remove_preview(request)
        if code == 0:
            self._say(request, f"Done: {request.output}")
            with reporting():
                if request.table is None:
                    self.results.show(request)
            if self.controls.output.line.text() == self._filled:
                self._fill_folder(request.output)
            return
        error = job.error()
        if error:
            self._say(request, error)
            show(error)
        else:
            resumable = code == INTERRUPTED and (request.output / STATE).exists()
            self._say(request, "Stopped; Resume continues." if resumable else "Stopped.")
        if self.waiting and job.stopping:
            self._say(request, f"Stopped. {len(self.waiting)} runs wait: press Add to queue or Run to go on.")

    def _say(self, request: Request, text: str) -> None:
        """Say how a run ended, below how those before it in the queue did."""
        self.ended = [*self.ended, f"{request.name}: {text}"][-6:]
        self.controls.state.setText("\n".join(self.ended) if len(self.ended) > 1 else text)

    def leave(self) -> None:
        """The run saves its state and ends; it can be resumed."""
        self.timer.stop()
        self.halt_estimate()
        self.results.stop()
        self.waiting.clear()
        if self.job is not None and self.job.running:
            self.job.stop()
            self._bar.close()


def _tilts_of(layer: Any) -> tuple[str, str]:
    """The tilt file beside the file of a layer, and its range of tilts, as the form shows them; empty if there are none."""
    path, limits = about(layer).get("path"), limits_of(layer)
    return (
        str(tilt_file_beside(Path(path)) or "") if path else "",
        f"{limits[0]:g} {limits[1]:g}" if limits else "",
    )


def _two(text: str) -> tuple[float, float]:
    low, high = text.split()
    return float(low), float(high)


def _folder_of(layer: Any) -> Path:
    """Where the results of a layer are proposed to go, before it is numbered."""
    path = about(layer).get("path")
    return (Path(path).parent if path else Path.cwd()) / "restored"
