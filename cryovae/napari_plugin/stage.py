"""What a widget shows for a while: layers of its own, others hidden meanwhile, and everything put back as it was.

Neither Qt nor napari is needed here. One widget has the stage at a time: another that enters it sends the first away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

KEY = "cryovae stage"


def is_prop(layer: Any) -> bool:
    """Whether a layer was put up by a widget, only for as long as that shows something."""
    return KEY in layer.metadata


def camera_of(viewer: Any) -> Any:
    """The camera of a viewer, where napari 0.9 has it or where those before had it."""
    return viewer.scene.camera if hasattr(viewer, "scene") else viewer.camera


def grid_of(viewer: Any) -> Any:
    """The grid of cells of a viewer, likewise."""
    return viewer.canvas.grid if hasattr(viewer, "canvas") else viewer.grid


class Stage:
    """Layers of one widget in a viewer. leave: called when another widget takes the stage; it has to call ``clear``."""

    def __init__(self, viewer: Any, leave: Callable[[], None]) -> None:
        self.viewer = viewer
        self.leave = leave
        self.props: list[Any] = []
        self._hidden: list[Any] = []
        self._active: Any = None
        self._grid: tuple[bool, int, tuple[int, int]] | None = None
        self._view: tuple[Any, float] = ((0.0, 0.0, 0.0), 1.0)

    @property
    def set(self) -> bool:
        """Whether anything is shown."""
        return bool(self.props)

    def enter(self, keep: Sequence[Any] = ()) -> None:
        """Send other widgets away, and hide every layer that is visible, but those of ``keep``."""
        for other in {id(layer.metadata[KEY]): layer.metadata[KEY] for layer in self.viewer.layers if is_prop(layer)}.values():
            if other is not self:
                other.leave()
        self._active = self.viewer.layers.selection.active
        self._hidden = [layer for layer in self.viewer.layers if layer.visible and all(layer is not kept for kept in keep)]
        for layer in self._hidden:
            layer.visible = False

    def add(self, density: Any, like: Any, name: str, **options: Any) -> Any:
        """Put up an image where ``like`` lies, with its scale; leading axes of ``density`` beyond those have scale 1."""
        more = density.ndim - like.ndim
        place: dict[str, Any] = {
            "scale": (1.0,) * more + tuple(like.scale),
            "translate": (0.0,) * more + tuple(like.translate),
            "units": ("pixel",) * more + tuple(str(unit) for unit in like.units),
        }
        layer = self.viewer.add_image(density, name=name, metadata={KEY: self}, **(place | options))
        self.props.append(layer)
        return layer

    def side_by_side(self) -> None:
        """Show the layers in a row of cells, their cameras linked."""
        grid = grid_of(self.viewer)
        if self._grid is None:
            self._grid = (grid.enabled, grid.stride, grid.shape)
            camera = camera_of(self.viewer)
            self._view = (camera.center, camera.zoom)
        grid.stride, grid.shape, grid.enabled = 1, (1, len(self.props)), True
        self.viewer.reset_view()

    def clear(self) -> None:
        """Take the layers out, and show again what was hidden and still is there; nothing happens the second time."""
        props, self.props = self.props, []
        for layer in props:
            if layer in self.viewer.layers:
                self.viewer.layers.remove(layer)
        if self._grid is not None:
            grid = grid_of(self.viewer)
            grid.enabled, grid.stride, grid.shape = self._grid
            camera = camera_of(self.viewer)
            camera.center, camera.zoom = self._view
            self._grid = None
        hidden, self._hidden = self._hidden, []
        for layer in hidden:
            layer.visible = True
        if self._active is not None and self._active in self.viewer.layers:
            self.viewer.layers.selection.active = self._active
        self._active = None
