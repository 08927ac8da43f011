"""Parts of a volume: what is in view, what was drawn as a rectangle, and boxes that fit into the volume."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cryovae.errors import InputError
from cryovae.evaluation.region import Box


def box_within(low: Sequence[float], high: Sequence[float], shape: Sequence[int], least: int, most: int | None = None) -> Box:
    """The box between two corners, moved and resized to fit into a volume.

    Args:
        low: One corner (z, y, x) in voxels.
        high: The opposite corner; its voxels are not part of the box.
        shape: Voxels of the volume along z, y, x.
        least: Voxels along each side of the box, at least.
        most: Voxels along each side of the box, at most; None for no limit.

    Raises:
        InputError: The volume is smaller than ``least``.
    """
    if min(shape) < least:
        raise InputError(f"{sides(shape)} voxels found, expected at least {least} along each axis: choose a larger tomogram")
    start, stop = [], []
    for a, b, size in zip(low, high, shape, strict=True):
        first, last = (min(max(corner, 0), size) for corner in sorted((a, b)))
        side = int(min(max(round(last - first), least), size, most or size))
        begin = int(min(max((first + last - side) // 2, 0), size - side))
        start.append(begin)
        stop.append(begin + side)
    return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))


def sides(shape: Sequence[int]) -> str:
    """A shape as text."""
    return " x ".join(map(str, shape))


def voxel_in_view(viewer: Any, layer: Any) -> list[int]:
    """The voxel (z, y, x) of a layer at the sliders of the viewer."""
    place = (np.array(viewer.dims.point[-3:]) - np.array(layer.translate)) / np.array(layer.scale)
    return [round(float(at)) for at in place]


def last_rectangle(viewer: Any, layer: Any) -> np.ndarray | None:
    """Corners (2, 3) in voxels of a layer of the last rectangle of the last Shapes layer; None if there is none."""
    drawn = [one for one in viewer.layers if hasattr(one, "shape_type") and "rectangle" in one.shape_type]
    if not drawn:
        return None
    shapes = drawn[-1]
    number = max(i for i, kind in enumerate(shapes.shape_type) if kind == "rectangle")
    world = np.array([shapes.data_to_world(corner) for corner in shapes.data[number]])
    # Along an axis that the shape does not have, it lies in the slice in view.
    full = np.array(viewer.dims.point[-3:])[None].repeat(len(world), 0)
    full[:, 3 - min(world.shape[1], 3) :] = world[:, -3:]
    voxels = (full - np.array(layer.translate)) / np.array(layer.scale)
    return np.stack([voxels.min(0), voxels.max(0)])
