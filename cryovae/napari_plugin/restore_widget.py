"""Restore a tomogram from the window: a form, a run beside napari, how it is coming on, and its results as layers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QTimer

from cryovae.checkpoint import STATE
from cryovae.errors import InputError
from cryovae.io.files import read_volume
from cryovae.napari_plugin.contents import layers_of_run, tilt_file_beside
from cryovae.napari_plugin.docked import Docked
from cryovae.napari_plugin.layers import about, contrast_limits, layer_for, of_role
from cryovae.napari_plugin.notices import reported, reporting, show
from cryovae.napari_plugin.restore_controls import Controls
from cryovae.napari_plugin.restore_job import INTERRUPTED, Job
from cryovae.napari_plugin.restore_model import (
    Box,
    Request,
    arguments_of,
    box_between,
    checked,
    halves_among,
    is_volume,
    limits_of,
    voxel_size,
)
from cryovae.napari_plugin.stage import is_prop
from cryovae.workflows.run_folder import read_record
from cryovae.workflows.run_inputs import record_of

if TYPE_CHECKING:
    from napari.viewer import Viewer

# Milliseconds between two looks at the run.
EVERY = 500
# Voxels along each axis that a region has at least: a patch of the quick preset.
LEAST = 40


class RestoreWidget(Docked):
    """The dock widget. job: the run that goes on or was the last, None before there was one."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.controls = Controls()
        self.job: Job | None = None
        self._request: Request | None = None
        self._bar: Any = None
        self._seen: Any = None
        self._told_gone = False
        self.timer = QTimer(self)
        self.timer.setInterval(EVERY)
        self.timer.timeout.connect(self.look)
        c = self.controls
        self.stack(c.choosing, c.training, c.running, c.advanced)
        self._connect()
        self._list()

    def _connect(self) -> None:
        c = self.controls
        c.run.clicked.connect(lambda: self.begin())
        c.resume.clicked.connect(lambda: self.begin(resume=True))
        c.cancel.clicked.connect(lambda: self.cancel())
        c.halves.toggled.connect(lambda on: self._allow())
        c.region.toggled.connect(lambda on: self._allow())
        c.first.currentTextChanged.connect(lambda name: self._take_over())
        c.output.line.textChanged.connect(lambda text: self._allow())
        self.viewer.layers.events.inserted.connect(self._list)
        self.viewer.layers.events.removed.connect(self._list)

    def _list(self, event: Any = None) -> None:
        """Offer the volumes of the viewer; a pair of halves is taken where there is one and nothing was chosen yet."""
        volumes = [layer for layer in self.viewer.layers if is_volume(layer) and not is_prop(layer)]
        c = self.controls
        first = not c.first.count()
        c.offer([layer.name for layer in volumes])
        pair = halves_among(volumes)
        if first and pair:
            c.halves.setChecked(True)
            c.first.setCurrentText(pair[0].name)
            c.second.setCurrentText(pair[1].name)
        if first:
            self._take_over()
        self._miss()
        self._allow()

    def _miss(self) -> None:
        """Say once that a layer of the run that goes on is gone."""
        if self._request is None or self.job is None or not self.job.running or self._told_gone:
            return
        if any(layer not in self.viewer.layers for layer in self._request.volumes):
            self._told_gone = True
            show(f"a layer of the run was removed: the run goes on, its results come from {self._request.output}")

    def _take_over(self) -> None:
        """The tilts and the folder that go with the layer that was chosen."""
        layer, c = self._layer(self.controls.first.currentText()), self.controls
        if layer is None:
            return
        limits = limits_of(layer)
        if limits:
            c.lowest.setValue(limits[0])
            c.highest.setValue(limits[1])
        path = (about(layer) or {}).get("path")
        c.tilts.line.setText(str(tilt_file_beside(Path(path)) or "") if path else "")
        if not c.output.line.text():
            c.output.line.setText(str((Path(path).parent if path else Path.cwd()) / "restored"))

    def _layer(self, name: str) -> Any | None:
        return next((layer for layer in self.viewer.layers if layer.name == name), None)

    def _allow(self) -> None:
        running = self.job is not None and self.job.running
        output = self.controls.output.path
        stopped = output is not None and (output / STATE).exists() and read_record(output / "run.json").get("status") != "done"
        self.controls.allow(running, stopped)

    def request(self) -> Request:
        """What the form says; InputError if no run can be begun with it."""
        c = self.controls
        names = [c.first.currentText(), c.second.currentText()] if c.halves.isChecked() else [c.first.currentText()]
        volumes = tuple(self._layer(name) for name in names)
        if c.halves.isChecked() and (c.first.count() < 2 or len(set(names)) < 2):
            raise InputError("two halves chosen, but there is one layer to take them from: open the other half, or untick halves")
        if c.output.path is None:
            raise InputError("no folder for the results found, expected one: choose it under Run")
        request = Request(
            volumes,
            c.output.path,
            c.tilts.path,
            (c.lowest.value(), c.highest.value()),
            c.model.path,
            c.preset.currentText(),
            c.steps.value() or None,
            c.samples.value(),
            min(c.kept.value(), c.samples.value()),
            c.seed.value(),
            c.device.currentText(),
            self._box(volumes[0]) if c.region.isChecked() and volumes[0] is not None else None,
            c.settings.text(),
        )
        return checked(request)

    def _box(self, layer: Any) -> Box:
        """The last rectangle of a shapes layer, or what the view shows, about the current slice, in voxels of the layer."""
        from napari.layers import Shapes

        drawn = [shapes for shapes in self.viewer.layers if isinstance(shapes, Shapes) and len(shapes.data)]
        if drawn:
            corners = [layer.world_to_data(drawn[-1].data_to_world(corner))[-3:] for corner in drawn[-1].data[-1]]
            corners = [np.min(corners, axis=0), np.max(corners, axis=0)]
        else:
            corners = [corner[-3:] for corner in layer.corner_pixels]
        middle = int(layer.world_to_data(self.viewer.dims.point)[-3])
        depth = self.controls.depth.value()
        return box_between(np.asarray(corners)[:, 1:], layer.data.shape, middle, depth, min(LEAST, *layer.data.shape))

    @reported
    def begin(self, resume: bool = False) -> None:
        """Start the run that the form asks for."""
        if self.job is not None and self.job.running:
            return
        request = self.request()
        job = Job(arguments_of(request, resume), request.output)
        job.begin()
        self._request, self.job, self._seen, self._told_gone = request, job, None, False
        self._bar = self._new_bar()
        self.controls.losses.hide()
        self.timer.start()
        self.look()

    def _new_bar(self) -> Any:
        from napari.utils import progress

        return progress(total=0, desc="cryovae: starting")

    def cancel(self) -> None:
        """Ask the run to save and leave; ``look`` notices that it has."""
        if self.job is not None:
            self.job.stop()
            self.controls.state.setText("Saving the state, and stopping ...")

    def look(self) -> None:
        """Show how far the run is; at its end its results, or why there are none."""
        job, request = self.job, self._request
        if job is None or request is None:
            return
        ended = job.ended
        if not job.stopping:
            self._show_state(job)
        losses = job.losses()
        if losses:
            self.controls.losses.setVisible(True)
            self.controls.losses.show_losses(losses)
        with reporting():
            self._show_live(job, request)
        if ended is not None:
            self.timer.stop()
            self._bar.close()
            self._end(job, request, ended)
        self._allow()

    def _show_state(self, job: Job) -> None:
        state = job.state()
        left = f", {state.remaining} left" if state.remaining else ""
        self.controls.state.setText(f"{state.phase} {state.done} of {state.total}{left}" if state.total else f"{state.phase} ...")
        self._bar.set_description(f"cryovae: {state.phase}{left}")
        self._bar.total = state.total
        self._bar.n = state.done
        self._bar.refresh()

    def _show_live(self, job: Job, request: Request) -> None:
        """The layer that improves as training goes on, in its place within the tomogram."""
        path = job.live()
        stamp = path.stat().st_mtime_ns if path else None
        if path is None or stamp == self._seen:
            return
        self._seen = stamp
        density = np.array(read_volume(path).density)
        before = self._preview(request)
        if before is not None and before.data.shape == density.shape:
            before.data = density
            before.contrast_limits = contrast_limits(density)
            return
        size = voxel_size(request.volumes[0])
        start = record_of(request.output).get("live", (0, 0, 0))
        data, options, _ = layer_for(density, "preview", "live preview", size, run=request.output)
        place = [(at + a) * size for at, a in zip(self._start(request), start, strict=True)]
        self.viewer.add_image(data, translate=place, **options)

    def _preview(self, request: Request) -> Any | None:
        return of_role(self.viewer.layers, "preview", str(request.output))

    def _start(self, request: Request) -> tuple[int, ...]:
        return tuple(part.start for part in request.box) if request.box else (0, 0, 0)

    def _end(self, job: Job, request: Request, code: int) -> None:
        preview = self._preview(request)
        if preview is not None:
            self.viewer.layers.remove(preview)
        if code == 0:
            self.controls.state.setText(f"Done: {request.output}")
            with reporting():
                self._show_results(request)
            return
        complaint = job.complaint()
        if complaint:
            self.controls.state.setText(complaint)
            show(complaint)
        else:
            resumable = code == INTERRUPTED and (request.output / STATE).exists()
            self.controls.state.setText("Stopped; Resume goes on." if resumable else "Stopped.")

    def _show_results(self, request: Request) -> None:
        """Mean, standard deviation and samples, instead of those that an earlier run in the same folder left."""
        for layer in [found for found in self.viewer.layers if (about(found) or {}).get("run") == str(request.output)]:
            self.viewer.layers.remove(layer)
        size = voxel_size(request.volumes[0])
        for data, options, _ in layers_of_run(request.output):
            if options["metadata"]["cryovae"]["role"] == "input":
                continue
            leading = data.ndim - 3
            place = (0.0,) * leading + tuple(at * size for at in self._start(request))
            self.viewer.add_image(data, translate=place, **options)

    def leave(self) -> None:
        """The window or the dock is closed: the run saves and leaves, and can be resumed."""
        self.timer.stop()
        self.viewer.layers.events.inserted.disconnect(self._list)
        self.viewer.layers.events.removed.disconnect(self._list)
        if self.job is not None and self.job.running:
            self.job.stop()
            self._bar.close()
