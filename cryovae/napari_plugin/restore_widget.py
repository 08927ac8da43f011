"""Restore a tomogram from the window: a form, a run in a process beside napari, its progress, and its results as layers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QTimer

from cryovae.checkpoint import STATE
from cryovae.errors import InputError
from cryovae.evaluation.region import Box
from cryovae.io.files import read_volume
from cryovae.napari_plugin.contents import layers_of_run, tilt_file_beside
from cryovae.napari_plugin.dock_widget import DockWidget
from cryovae.napari_plugin.layers import KEY, LayerTuple, about, contrast_limits, layer_for, of_role
from cryovae.napari_plugin.notices import reported, reporting, show
from cryovae.napari_plugin.plots import draw_losses
from cryovae.napari_plugin.regions import box_within, last_rectangle, voxel_in_view
from cryovae.napari_plugin.restore_controls import Controls
from cryovae.napari_plugin.restore_job import INTERRUPTED, Job
from cryovae.napari_plugin.restore_model import (
    Request,
    arguments_of,
    checked,
    config_of,
    halves_among,
    is_volume,
    limits_of,
    voxel_size,
)
from cryovae.napari_plugin.temporary_layers import is_temporary
from cryovae.workflows.run_folder import read_record
from cryovae.workflows.run_inputs import record_of

if TYPE_CHECKING:
    from napari.viewer import Viewer

# Milliseconds between two looks at the run.
INTERVAL = 500


class RestoreWidget(DockWidget):
    """The dock widget.

    Attributes:
        controls: The form.
        job: The current run, or the last one; None before there was one.
        timer: Updates what is shown of the run.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        self.controls = c = Controls()
        self.job: Job | None = None
        self._request: Request | None = None
        self._bar: Any = None
        self._preview_time: Any = None
        self._warned = False
        self.timer = QTimer(self)
        self.timer.setInterval(INTERVAL)
        self.timer.timeout.connect(self.look)
        self.stack(c.tomogram, c.training, c.running, c.advanced)
        c.run.clicked.connect(lambda: self.begin())
        c.resume.clicked.connect(lambda: self.begin(resume=True))
        c.cancel.clicked.connect(lambda: self.cancel())
        c.halves.toggled.connect(lambda on: self._allow())
        c.region.toggled.connect(lambda on: self._allow())
        c.first.currentTextChanged.connect(lambda name: self._fill_in())
        c.output.line.textChanged.connect(lambda text: self._allow())
        self.listen(self._list_layers, self.viewer.layers.events.inserted, self.viewer.layers.events.removed)
        self._list_layers()

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
        limits = limits_of(layer)
        if limits:
            c.lowest.setValue(limits[0])
            c.highest.setValue(limits[1])
        path = about(layer).get("path")
        c.tilts.line.setText(str(tilt_file_beside(Path(path)) or "") if path else "")
        if not c.output.line.text():
            c.output.line.setText(str((Path(path).parent if path else Path.cwd()) / "restored"))

    def _layer(self, name: str) -> Any | None:
        return next((layer for layer in self.viewer.layers if layer.name == name), None)

    def _allow(self) -> None:
        running = self.job is not None and self.job.running
        output = self.controls.output.path
        stopped = output is not None and (output / STATE).exists() and _status(output) != "done"
        self.controls.allow(running, stopped)

    def request(self) -> Request:
        """The request of the form. InputError if it cannot be run."""
        c = self.controls
        names = [c.first.currentText(), c.second.currentText()][: 2 if c.halves.isChecked() else 1]
        if c.halves.isChecked() and (c.first.count() < 2 or names[0] == names[1]):
            raise InputError("two halves chosen, but there is one layer to take them from: open the other half, or untick halves")
        if c.output.path is None:
            raise InputError("no folder for the results found, expected one: choose it under Run")
        volumes = tuple(self._layer(name) for name in names)
        settings = {key: box.value() for key, box in c.settings.items()}
        settings["restoration.samples_out"] = min(settings["restoration.samples_out"], settings["restoration.samples"])
        region = volumes[0] if c.region.isChecked() else None
        request = Request(
            volumes,
            c.output.path,
            tilts=c.tilts.path,
            limits=(c.lowest.value(), c.highest.value()),
            model=c.model.path,
            preset=c.preset.currentText(),
            settings=settings,
            more=c.more.text(),
            seed=c.seed.value(),
            device=c.device.currentText(),
            box=None
            if region is None
            else self._box(region, config_of(c.preset.currentText(), settings, c.more.text()).training.patch),
        )
        return checked(request)

    def _box(self, layer: Any, patch: int) -> Box:
        """The last rectangle of a Shapes layer, or what is in view, about the current slice; at least a patch if it fits."""
        corners = last_rectangle(self.viewer, layer)
        if corners is None:
            corners = np.asarray([corner[-3:] for corner in layer.corner_pixels], dtype=float)
        middle, depth = voxel_in_view(self.viewer, layer)[0], self.controls.depth.value()
        corners[:, 0] = middle - depth / 2, middle + depth / 2
        shape = layer.data.shape
        return box_within(corners[0].tolist(), corners[1].tolist(), shape, min(patch, *shape))

    @reported
    def begin(self, resume: bool = False) -> None:
        """Start the run that the form asks for."""
        if self.job is not None and self.job.running:
            return
        from napari.utils import progress

        request = self.request()
        job = Job(arguments_of(request, resume), request.output)
        job.begin()
        self._request, self.job, self._preview_time, self._warned = request, job, None, False
        self._bar = progress(total=0, desc="cryovae: starting")
        self.controls.losses.hide()
        self.timer.start()
        self.look()

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
        if losses:
            draw_losses(self.controls.losses, losses)
        with reporting():
            self._show_preview(job, request)
        if code is not None:
            self.timer.stop()
            self._bar.close()
            self._end(job, request, code)
        self._allow()

    def _show_state(self, job: Job) -> None:
        state = job.state()
        left = f", {state.remaining} left" if state.remaining else ""
        self.controls.state.setText(f"{state.phase} {state.done} of {state.total}{left}" if state.total else f"{state.phase} ...")
        self._bar.set_description(f"cryovae: {state.phase}{left}")
        self._bar.total, self._bar.n = state.total, state.done
        self._bar.refresh()

    def _show_preview(self, job: Job, request: Request) -> None:
        """The layer that improves as training continues, in its place within the tomogram."""
        path = job.live()
        time = path.stat().st_mtime_ns if path else None
        if path is None or time == self._preview_time:
            return
        self._preview_time = time
        density = np.array(read_volume(path).density)
        layer = self._preview(request)
        if layer is not None and layer.data.shape == density.shape:
            layer.data = density
            layer.contrast_limits = contrast_limits(density)
            return
        live = layer_for(density, "preview", "live preview", voxel_size(request.volumes[0]), run=request.output)
        self._add(live, request, record_of(request.output).get("live", (0, 0, 0)))

    def _preview(self, request: Request) -> Any | None:
        return of_role(self.viewer.layers, "preview", str(request.output))

    def _add(self, layer: LayerTuple, request: Request, start: Sequence[int] = (0, 0, 0)) -> None:
        """Add a layer whose first voxel is ``start`` (z, y, x) of the restored part."""
        data, options, _ = layer
        origin, size = request.box.start if request.box else (0, 0, 0), voxel_size(request.volumes[0])
        place = tuple((a + b) * size for a, b in zip(origin, start, strict=True))
        self.viewer.add_image(data, translate=(0.0,) * (data.ndim - 3) + place, **options)

    def _end(self, job: Job, request: Request, code: int) -> None:
        preview = self._preview(request)
        if preview is not None:
            self.viewer.layers.remove(preview)
        if code == 0:
            self.controls.state.setText(f"Done: {request.output}")
            with reporting():
                self._show_results(request)
            return
        error = job.error()
        if error:
            self.controls.state.setText(error)
            show(error)
        else:
            resumable = code == INTERRUPTED and (request.output / STATE).exists()
            self.controls.state.setText("Stopped; Resume continues." if resumable else "Stopped.")

    def _show_results(self, request: Request) -> None:
        """Mean, standard deviation and samples; they replace those of an earlier run in the same folder."""
        for layer in [layer for layer in self.viewer.layers if about(layer).get("run") == str(request.output)]:
            self.viewer.layers.remove(layer)
        for layer in layers_of_run(request.output):
            if layer[1]["metadata"][KEY]["role"] != "input":
                self._add(layer, request)

    def leave(self) -> None:
        """The run saves its state and ends; it can be resumed."""
        self.timer.stop()
        if self.job is not None and self.job.running:
            self.job.stop()
            self._bar.close()


def _status(output: Path) -> str | None:
    """How the run of a folder ended; None if its record is damaged or missing."""
    try:
        status: str | None = read_record(output / "run.json").get("status")
    except InputError:
        return None
    return status
