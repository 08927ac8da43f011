"""Subtomograms from the images of one particle, by weighted back-projection.

    I'(x', y') = I(x' cos a - y' sin a, x' sin a + y' cos a)        a the angle of the tilt axis from +y, counter-clockwise

rotates the axis of each image onto y. The tilts at 0, 2, 4 ... and 1, 3, 5 ... in the order of their angles form the two halves.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.ndimage import affine_transform
from torch import Tensor

from cryovae.physics.projection import weighted_back_projection


def axis_upright(images: np.ndarray, axis_angles: Sequence[float]) -> Tensor:
    """Images (tilts, n, n) rotated so that their tilt axes are along y; axis_angles in degrees, one per image.

    Pixel n // 2, the centre of a particle in RELION and Warp, moves to the middle of the grid, (n - 1) / 2.
    """
    n = images.shape[-1]
    rotated = []
    for image, angle in zip(images, axis_angles, strict=True):
        a = np.radians(angle)
        # Rows of an array are y, columns x.
        matrix = np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])
        middle = np.full(2, (n - 1) / 2)
        rotated.append(affine_transform(image.astype(np.float32), matrix, n // 2 - matrix @ middle, order=3, mode="nearest"))
    return torch.from_numpy(np.stack(rotated))


def halves_of_stack(images: np.ndarray, angles: Sequence[float], axis_angles: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Two densities (n, n, n) from images (tilts, n, n) of a particle, each of every other tilt; angles in degrees."""
    order = np.argsort(angles, kind="stable")
    upright = axis_upright(images[order], [axis_angles[i] for i in order])
    sorted_angles = [float(angles[i]) for i in order]
    n = images.shape[-1]
    first, second = (weighted_back_projection(upright[k::2], sorted_angles[k::2], (n, n, n)) for k in (0, 1))
    return first, second
