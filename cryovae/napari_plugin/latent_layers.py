"""The selected patch in napari's viewer: a box about it, the decoded density in its place, and the camera on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cryovae.napari_plugin.latent_model import shell
from cryovae.napari_plugin.temporary_layers import camera_of, show_depth

BOX, DECODED, GROUP = "patch in the latent space", "decoded patch", "group of patches"


class PatchLayers:
    """Two layers of a viewer, added when they are needed, and again if the user has removed them. Lengths in angstrom."""

    def __init__(self, viewer: Any) -> None:
        self.viewer = viewer
        self._corner: tuple[float, ...] = (0.0, 0.0, 0.0)
        self._voxel_size = 1.0

    def put(self, corner: Sequence[float], side: int, voxel_size: float) -> None:
        """Draw the box of a patch of ``side`` voxels from its first voxel (z, y, x) on; the decoded patch moves with it."""
        self._corner, self._voxel_size = tuple(corner), voxel_size
        box = self._layer(BOX)
        if box is not None and (len(box.data) != side or box.scale[0] != voxel_size):
            self.viewer.layers.remove(box)
            box = None
        if box is None:
            self._add(BOX, shell(side), colormap="yellow", contrast_limits=(0, 1), blending="additive", rendering="average")
        for name in (BOX, DECODED):
            layer = self._layer(name)
            if layer is not None:
                layer.translate = self._corner

    def show_density(self, density: np.ndarray, limits: tuple[float, float]) -> None:
        """Show a density (z, y, x) at the patch, between two grey values."""
        layer = self._layer(DECODED)
        if layer is not None and layer.data.shape == density.shape:
            layer.data = density
            return
        self.remove_density()
        # Protein is dark, so a minimum projection shows it in 3D.
        self._add(DECODED, density, colormap="gray", contrast_limits=limits, rendering="minip")
        box = self._layer(BOX)
        if box is not None:
            self.viewer.layers.move(self.viewer.layers.index(box), len(self.viewer.layers))

    def show_group(self, middles: np.ndarray, numbers: Sequence[int], side: int, voxel_size: float) -> None:
        """Show the middles of patches (n, 3) as points, which can be saved as any layer."""
        layer = self._layer(GROUP)
        if layer is not None:
            self.viewer.layers.remove(layer)
        if not len(middles):
            return
        active = self.viewer.layers.selection.active
        points = self.viewer.add_points(
            middles / voxel_size,
            name=GROUP,
            scale=(voxel_size,) * 3,
            features={"patch": list(numbers)},
            size=side / 8,
            face_color="orange",
            border_color="orange",
            opacity=0.8,
            units=("angstrom",) * 3,
        )
        show_depth(points)
        self.go_to(middles[np.argsort(middles[:, 0])[len(middles) // 2]].tolist())
        self.viewer.layers.selection.active = active

    def remove_density(self) -> None:
        """Remove the decoded patch from the viewer."""
        layer = self._layer(DECODED)
        if layer is not None:
            self.viewer.layers.remove(layer)

    def go_to(self, middle: Sequence[float]) -> None:
        """Move the sliders and the camera to a place (z, y, x)."""
        dims = self.viewer.dims
        for axis, at in zip(range(dims.ndim - 3, dims.ndim), middle, strict=True):
            dims.set_point(axis, at)
        place = (0.0,) * (dims.ndim - 3) + tuple(middle)
        shown = tuple(place[axis] for axis in dims.displayed)
        camera_of(self.viewer).center = (0.0,) * (3 - len(shown)) + shown

    def _layer(self, name: str) -> Any:
        # By name, as the user may have removed the layer.
        return next((layer for layer in self.viewer.layers if layer.name == name), None)

    def _add(self, name: str, data: np.ndarray, **options: Any) -> None:
        """Add a layer at the patch; the selection stays."""
        active = self.viewer.layers.selection.active
        size = (self._voxel_size,) * 3
        self.viewer.add_image(data, name=name, scale=size, units=("angstrom",) * 3, translate=self._corner, **options)
        self.viewer.layers.selection.active = active
