"""Patches of the learned prior in napari's viewer: draws, a walk and a morph at one place, of which one is shown at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from cryovae.napari_plugin.temporary_layers import camera_of

DRAWS, WALK, MORPH = "draws of the prior", "walk in the prior", "morph in the prior"
NAMES = (DRAWS, WALK, MORPH)
# Voxels between other layers and the patches, which lie beside them along x.
GAP = 8


class PriorLayers:
    """Layers of a viewer, added when they are needed, and again if the user has removed them. Lengths in angstrom."""

    def __init__(self, viewer: Any) -> None:
        self.viewer = viewer

    def show(self, name: str, density: np.ndarray, limits: tuple[float, float], voxel_size: float) -> None:
        """Show a density (..., z, y, x) under a name, and hide the other layers of the prior."""
        leading = density.ndim - 3
        scale = (1.0,) * leading + (voxel_size,) * 3
        layer = self.layer(name)
        if layer is not None and (layer.data.shape != density.shape or tuple(layer.scale) != scale):
            self.viewer.layers.remove(layer)
            layer = None
        if layer is None:
            self._add(name, density, limits, scale)
        else:
            layer.data, layer.contrast_limits = density, limits
            layer.visible = True
        for other in NAMES:
            before = self.layer(other) if other != name else None
            if before is not None:
                before.visible = False

    def layer(self, name: str) -> Any:
        """The layer of a name; None if there is none, or the user has removed it."""
        return next((layer for layer in self.viewer.layers if layer.name == name), None)

    def number(self, name: str) -> int | None:
        """Which patch of a stack the viewer shows; None if the layer is not shown."""
        layer = self.layer(name)
        if layer is None or not layer.visible or layer.ndim != 4:
            return None
        return int(np.clip(round(self.viewer.dims.point[self.viewer.dims.ndim - 4]), 0, len(layer.data) - 1))

    def go_to(self, number: int) -> None:
        """Show a patch of the stack."""
        dims = self.viewer.dims
        if dims.ndim > 3:
            dims.set_point(dims.ndim - 4, number)

    def _add(self, name: str, density: np.ndarray, limits: tuple[float, float], scale: tuple[float, ...]) -> None:
        leading, active = density.ndim - 3, self.viewer.layers.selection.active
        empty, corner = not self.viewer.layers, self._corner(scale[-1])
        self.viewer.add_image(
            density,
            name=name,
            scale=scale,
            units=("pixel",) * leading + ("angstrom",) * 3,
            translate=(0.0,) * leading + corner,
            contrast_limits=limits,
            colormap="gray",
            # Protein is dark, so a minimum projection shows it in 3D.
            rendering="minip",
        )
        if active is not None and active in self.viewer.layers:
            self.viewer.layers.selection.active = active
        middle = [at + (size - 1) / 2 * scale[-1] for at, size in zip(corner, density.shape[-3:], strict=True)]
        dims = self.viewer.dims
        for axis, at in zip(range(dims.ndim - 3, dims.ndim), middle, strict=True):
            dims.set_point(axis, at)
        if empty:
            self.viewer.reset_view()
        else:
            displayed = [axis - (dims.ndim - 3) for axis in dims.displayed if axis >= dims.ndim - 3]
            shown = tuple(middle[axis] for axis in displayed)
            camera_of(self.viewer).center = (0.0,) * (3 - len(shown)) + shown

    def _corner(self, voxel_size: float) -> tuple[float, float, float]:
        """Where the other layers of the prior are, else beside all other layers."""
        own = next((layer for name in NAMES if (layer := self.layer(name)) is not None), None)
        if own is not None:
            z, y, x = own.translate[-3:]
            return float(z), float(y), float(x)
        if not self.viewer.layers:
            return 0.0, 0.0, 0.0
        low, high = self.viewer.layers.extent.world
        return float(low[-3]), float(low[-2]), float(high[-1]) + GAP * voxel_size
