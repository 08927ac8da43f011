"""Picking by template matching: locally normalised cross-correlation over a grid of rotations, on the CPU.

    s(r) = max_R  sum_u t_R(u) f(r + u) / ( sqrt(N) sigma_f(r) )        sums over the N voxels u of a ball around the molecule
    t_R  = M C (R x), less its mean, of norm 1, over the ball           M the wedge or 1, C the contrast transfer, x the map

sigma_f is the standard deviation of the tomogram over the ball, so s is a correlation coefficient, -1 to 1 (Roseman,
Ultramicroscopy 2003, 94:225). Several tomograms of one shape are matched at once: a rotated template is made once for all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import maximum_filter
from scipy.spatial.transform import Rotation
from torch import Tensor

from cryovae import fourier
from cryovae.physics.rotation import rotate
from cryovae.physics.wedge import patch_mask
from cryovae.tomogram import TiltGeometry

# Voxels around the body of a molecule that belong to its ball.
AROUND = 1.0


@dataclass(frozen=True)
class Template:
    """A molecule to look for.

    Attributes:
        density: map (n, n, n), n odd, its middle voxel the position; of the contrast that the tomogram has.
        radius: of the body of the molecule, in voxels.
        transfer: contrast transfer of a frequency |k| (...) in cycles per voxel.
    """

    density: Tensor
    radius: float
    transfer: Callable[[Tensor], Tensor]

    @property
    def reach(self) -> int:
        """Voxels from the middle of a rotated map to its faces."""
        return int(np.ceil(self.radius + AROUND)) + 2

    @property
    def box(self) -> int:
        """Side of the box of a rotated map, a multiple of 4 so that it can be binned."""
        return 4 * int(np.ceil((2 * self.reach + 2) / 4))


@dataclass(frozen=True)
class Peaks:
    """Picks of one tomogram, best first.

    Attributes:
        positions: (n, 3), z, y, x in voxels of the tomogram.
        scores: (n,), correlation coefficients.
        rotations: (n,), index of the rotation of each.
    """

    positions: np.ndarray
    scores: np.ndarray
    rotations: np.ndarray


def rotation_grid(count: int) -> Rotation:
    """``count`` rotations spread evenly: super-Fibonacci spirals of quaternions (Alexa, CVPR 2022)."""
    s = np.arange(count) + 0.5
    inner, outer = np.sqrt(s / count), np.sqrt(1 - s / count)
    a, b = 2 * np.pi * s / np.sqrt(2), 2 * np.pi * s / 1.533751168755204288118041
    return Rotation.from_quat(np.stack([inner * np.sin(a), inner * np.cos(a), outer * np.sin(b), outer * np.cos(b)], 1))


def zyx(rotation: Rotation) -> Tensor:
    """The matrix (3, 3), or (n, 3, 3), for coordinates (z, y, x) of rotations of (x, y, z)."""
    return torch.from_numpy(np.ascontiguousarray(rotation.as_matrix()[..., ::-1, ::-1])).float()


def match(
    volumes: Tensor, template: Template, rotations: Rotation, wedges: Sequence[TiltGeometry | None], binning: float
) -> tuple[Tensor, Tensor]:
    """Correlate tomograms with a template in every rotation.

    Args:
        volumes: (n, z, y, x), each side a multiple of 4.
        template: what is looked for.
        rotations: from its map to the tomogram.
        wedges: for each volume the tilts whose missing wedge is removed from the template, or None.
        binning: voxels of the grid on which they are compared over those of the tomogram, in quarters: 0.5, 0.75 or 1.

    Returns:
        The best score (n, z', y', x') of each voxel after binning, and the index of its rotation.
    """
    shape = tuple(int(binning * side) for side in volumes.shape[1:])
    small = torch.stack([fourier.resampled(volume - volume.mean(), shape) for volume in volumes])
    side = int(binning * template.box)
    ball = _ball(side, binning * (template.radius + AROUND))
    small = small / small.std((1, 2, 3), keepdim=True).clamp_min(1e-12)
    spectra, norm = fourier.transform(small), _local_norm(small, ball)
    kinds = list(dict.fromkeys(wedges))
    filters = [_filter(template, tilts) for tilts in kinds]
    best, which = torch.full(small.shape, -2.0), torch.zeros(small.shape, dtype=torch.int16)
    scale = float(np.prod(shape)) ** 0.5
    for number, matrix in enumerate(zyx(rotations)):
        rotated = fourier.transform(_rotated(template, matrix))
        for kind, weight in zip(kinds, filters, strict=True):
            small_template = _normalised(
                fourier.resampled(fourier.inverse(rotated * weight, (template.box,) * 3), (side,) * 3), ball
            )
            conjugate = fourier.transform(_placed(small_template, shape)).conj() * scale
            for i in (i for i, tilts in enumerate(wedges) if tilts == kind):
                score = fourier.inverse(spectra[i] * conjugate, shape)
                score.mul_(norm[i])
                better = score > best[i]
                best[i][better], which[i][better] = score[better], number
    return best, which


def peaks(score: Tensor, which: Tensor, distance: float, border: float, most: int, binning: float) -> Peaks:
    """Local maxima of a score, best first, no two closer than a distance.

    Args:
        score: (z, y, x), binned, as ``match`` returns it.
        which: index of the rotation of each voxel.
        distance: smallest distance of two picks, in voxels of the tomogram.
        border: distance from the faces of the tomogram within which nothing is picked, in voxels of the tomogram.
        most: picks at most.
        binning: as of ``match``.
    """
    values = score.numpy()
    maxima = (values == maximum_filter(values, size=3)) & (values > 0)
    places = np.argwhere(maxima)
    order = np.argsort(-values[tuple(places.T)], kind="stable")
    places = places[order]
    positions = places / binning
    inside = ((positions >= border) & (positions <= np.array(score.shape) / binning - 1 - border)).all(1)
    places, positions = places[inside], positions[inside]
    free, kept = np.ones(len(places), dtype=bool), []
    for i in range(len(places)):
        if free[i]:
            kept.append(i)
            free &= ((positions - positions[i]) ** 2).sum(1) >= distance**2
        if len(kept) == most:
            break
    index = tuple(places[kept].T)
    return Peaks(positions[kept], values[index], which.numpy()[index].astype(int))


def _filter(template: Template, tilts: TiltGeometry | None) -> Tensor:
    shape = (template.box,) * 3
    transfer = template.transfer(fourier.radius(shape))
    return transfer if tilts is None else transfer * patch_mask(shape, tilts)


def _rotated(template: Template, matrix: Tensor) -> Tensor:
    """The rotated map in its box, with its middle at voxel 0, wrapped around."""
    cube = rotate(template.density[None, None], matrix, (2 * template.reach + 1,) * 3)[0, 0]
    return _placed(cube.roll((-template.reach,) * 3, (0, 1, 2)), (template.box,) * 3)


def _placed(wrapped: Tensor, shape: Sequence[int]) -> Tensor:
    """A cube with its middle at voxel 0, in a larger box in the same way."""
    n = wrapped.shape[0]
    offset = torch.arange(n)
    offset = torch.where(offset < (n + 1) // 2, offset, offset - n)
    large = torch.zeros(tuple(shape))
    z, y, x = (offset % side for side in shape)
    large[z[:, None, None], y[:, None], x] = wrapped
    return large


def _ball(side: int, radius: float) -> Tensor:
    """1 within a radius of voxel 0, wrapped around, (side, side, side)."""
    offset = torch.fft.fftfreq(side) * side
    return (sum(o**2 for o in torch.meshgrid(offset, offset, offset, indexing="ij")) <= radius**2).float()  # type: ignore[union-attr]


def _normalised(cube: Tensor, ball: Tensor) -> Tensor:
    centred = (cube - (cube * ball).sum() / ball.sum()) * ball
    return centred / centred.square().sum().sqrt().clamp_min(1e-12)


def _local_norm(volumes: Tensor, ball: Tensor) -> Tensor:
    """1 / sqrt( sum (f - mean f)^2 ), sums over the ball around each voxel, of volumes (n, z, y, x) of variance 1."""
    shape = tuple(volumes.shape[1:])
    kernel = fourier.transform(_placed(ball, shape)) * float(np.prod(shape)) ** 0.5
    norms = []
    for volume in volumes:
        sums, squares = (fourier.inverse(fourier.transform(v) * kernel, shape) for v in (volume, volume.square()))
        # A ball without structure must not divide by nothing.
        norms.append((squares - sums.square() / ball.sum()).clamp_min(1e-3 * float(ball.sum())).rsqrt())
    return torch.stack(norms)
