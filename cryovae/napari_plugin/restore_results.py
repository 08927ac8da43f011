"""The layers of a run: a preview that improves while it trains, then its results, one after another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer

from cryovae.io.files import read_volume
from cryovae.napari_plugin.contents import layers_of_run
from cryovae.napari_plugin.layers import KEY, LayerTuple, about, contrast_limits, density_of, layer_for, of_role
from cryovae.napari_plugin.restore_model import Request, voxel_size
from cryovae.workflows.run_inputs import record_of

if TYPE_CHECKING:
    from napari.viewer import Viewer

# Milliseconds between two layers: the window draws in between.
PAUSE = 20


class ResultLayers:
    """Shows what a run makes.

    Attributes:
        adding: Timer that adds the results one by one.

    Args:
        viewer: Where the layers are.
        parent: Of the timer.
    """

    def __init__(self, viewer: Viewer, parent: QObject) -> None:
        self.viewer = viewer
        self._left: list[tuple[LayerTuple, Request]] = []
        self._preview_time: int | None = None
        self.adding = QTimer(parent)
        self.adding.setInterval(PAUSE)
        self.adding.timeout.connect(self._add_next)

    def begin(self) -> None:
        """A run begins: forget the last preview."""
        self._preview_time = None

    def show_preview(self, path: Path | None, request: Request) -> None:
        """Show the file of a preview if it has changed, in its place within the tomogram."""
        time = path.stat().st_mtime_ns if path else None
        if path is None or time == self._preview_time:
            return
        self._preview_time = time
        density = np.array(read_volume(path).density)
        layer = self._preview(request)
        if layer is not None and density_of(layer).shape == density.shape:
            layer.data = density
            layer.contrast_limits = contrast_limits(density)
        elif request.volumes:
            live = layer_for(density, "preview", "live preview", voxel_size(request.volumes[0]), run=request.output)
            self._add(live, request, record_of(request.output).get("live", (0, 0, 0)))

    def remove_preview(self, request: Request) -> None:
        """Remove the preview of a run, if there is one."""
        preview = self._preview(request)
        if preview is not None:
            self.viewer.layers.remove(preview)

    def show(self, request: Request) -> None:
        """Mean, standard deviation and samples; they replace those of an earlier run in the same folder."""
        for layer in [layer for layer in self.viewer.layers if about(layer).get("run") == str(request.output)]:
            self.viewer.layers.remove(layer)
        self._left = [(layer, request) for layer in layers_of_run(request.output) if layer[1]["metadata"][KEY]["role"] != "input"]
        self.adding.start()

    def stop(self) -> None:
        """Add no more."""
        self.adding.stop()

    def _preview(self, request: Request) -> Any | None:
        return of_role(self.viewer.layers, "preview", str(request.output))

    def _add(self, layer: LayerTuple, request: Request, start: Sequence[int] = (0, 0, 0)) -> None:
        """Add a layer; ``start`` (z, y, x) is its first voxel, relative to the restored box."""
        data, options, _ = layer
        origin, size = request.box.start if request.box else (0, 0, 0), voxel_size(request.volumes[0])
        place = tuple((a + b) * size for a, b in zip(origin, start, strict=True))
        self.viewer.add_image(data, translate=(0.0,) * (data.ndim - 3) + place, **options)

    def _add_next(self) -> None:
        if self._left:
            self._add(*self._left.pop(0))
        if not self._left:
            self.adding.stop()
