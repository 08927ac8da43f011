"""Layers that a widget shows for a while: other layers are hidden meanwhile, and the viewer is restored afterwards.

Neither Qt nor napari is needed here. One widget shows its layers at a time: another one makes the first remove its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

KEY = "cryovae temporary"


def is_temporary(layer: Any) -> bool:
    """Whether a layer was added by a widget only for a while."""
    return KEY in layer.metadata


def camera_of(viewer: Any) -> Any:
    """The camera of a viewer, of napari 0.9 or of an earlier version."""
    return viewer.scene.camera if hasattr(viewer, "scene") else viewer.camera


def grid_of(viewer: Any) -> Any:
    """The grid of a viewer, of napari 0.9 or of an earlier version."""
    return viewer.canvas.grid if hasattr(viewer, "canvas") else viewer.grid


def scale_bar_of(viewer: Any) -> Any:
    """The scale bar of a viewer, of napari 0.9 or of an earlier version."""
    return viewer.canvas.overlays.scale_bar if hasattr(viewer, "canvas") else viewer.scale_bar


def show_depth(points: Any) -> None:
    """Draw points in all slices that their size reaches: in napari 0.9 where slices are set to be thick, earlier always."""
    try:
        points.projection_mode = "rescale_spherical"
    except ValueError:
        points.out_of_slice_display = True


class TemporaryLayers:
    """The temporary layers of one widget.

    Attributes:
        viewer: The napari viewer.
        stop: Called when another widget shows its layers; it has to call ``clear``.
        layers: The layers that are shown.
    """

    def __init__(self, viewer: Any, stop: Callable[[], None]) -> None:
        self.viewer, self.stop = viewer, stop
        self.layers: list[Any] = []
        self._invisible: list[Any] = []
        self._active: Any = None
        self._grid: tuple[bool, int, tuple[int, int]] | None = None
        self._view: tuple[Any, float] = ((0.0, 0.0, 0.0), 1.0)

    @property
    def shown(self) -> bool:
        """Whether any layer is shown."""
        return bool(self.layers)

    def begin(self) -> None:
        """Stop other widgets, and hide all visible layers."""
        for other in {
            id(layer.metadata[KEY]): layer.metadata[KEY] for layer in self.viewer.layers if is_temporary(layer)
        }.values():
            if other is not self:
                other.stop()
        self._active = self.viewer.layers.selection.active
        self._invisible = [layer for layer in self.viewer.layers if layer.visible]
        for layer in self._invisible:
            layer.visible = False

    def add(self, density: Any, like: Any, name: str, **options: Any) -> Any:
        """Add an image at the place and scale of the layer ``like``; further leading axes have scale 1."""
        more = density.ndim - like.ndim
        place: dict[str, Any] = {
            "scale": (1.0,) * more + tuple(like.scale),
            "translate": (0.0,) * more + tuple(like.translate),
            "units": ("pixel",) * more + tuple(str(unit) for unit in like.units),
        }
        layer = self.viewer.add_image(density, name=name, metadata={KEY: self}, **(place | options))
        self.layers.append(layer)
        return layer

    def side_by_side(self) -> None:
        """Show the layers in a row of cells with linked cameras."""
        grid = grid_of(self.viewer)
        if self._grid is None:
            self._grid = (grid.enabled, grid.stride, grid.shape)
            camera = camera_of(self.viewer)
            self._view = (camera.center, camera.zoom)
        grid.stride, grid.shape, grid.enabled = 1, (1, len(self.layers)), True
        self.viewer.reset_view()

    def clear(self) -> None:
        """Remove the layers, and show again those that were hidden; a second call does nothing."""
        shown, self.layers = self.layers, []
        for layer in shown:
            if layer in self.viewer.layers:
                self.viewer.layers.remove(layer)
        if self._grid is not None:
            grid, camera = grid_of(self.viewer), camera_of(self.viewer)
            grid.enabled, grid.stride, grid.shape = self._grid
            camera.center, camera.zoom = self._view
            self._grid = None
        for layer in self._invisible:
            layer.visible = True
        if self._active is not None and self._active in self.viewer.layers:
            self.viewer.layers.selection.active = self._active
        self._invisible, self._active = [], None
