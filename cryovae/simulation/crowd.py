"""Molecules in random orientations, crowded: one after the other, each where nothing is.

    placed(r) = x( R^-1 (r - r_i) )

Positions are indices (z, y, x) of voxels of the tomogram, the first voxel's centre being 0; R turns coordinates (x, y, z) of
the molecule's map into those of the tomogram.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import affine_transform
from scipy.spatial.transform import Rotation

from cryovae.io.molecules import BODY, Molecule
from cryovae.simulation.site import TRIES, Progress, Site, say


@dataclass(frozen=True)
class Placement:
    """A molecule in the tomogram: name, position (z, y, x) in voxels, and rotation of (x, y, z) from its map to the tomogram."""

    name: str
    position: tuple[float, float, float]
    rotation: Rotation


def rotated(one: Molecule, rotation: Rotation, part: np.ndarray) -> np.ndarray:
    """A molecule turned by a rotation of (x, y, z), its middle ``part`` (z, y, x) of a voxel beyond the cube's middle; a cube."""
    half = one.density.shape[0] // 2
    reach = int(np.ceil(min(one.radius, half * 3**0.5))) + 2
    matrix = rotation.as_matrix()[::-1, ::-1].T
    offset = half - matrix @ (reach + part)
    return affine_transform(one.density, matrix, offset, (2 * reach + 1,) * 3, order=1)


def add_molecules(site: Site, molecules: Sequence[Molecule], crowding: float, progress: Progress | None) -> list[Placement]:
    """Add molecules to a site; returns those inside the tomogram.

    Each species gets an equal part of ``crowding``, the share of the slab that molecules take; large ones come first.
    """
    if not molecules:
        return []
    nz, ny, nx = site.shape
    share = crowding * ny * nx * min(site.high - site.low, nz) / len(molecules)
    placements: list[Placement] = []
    for i, one in enumerate(sorted(molecules, key=lambda m: -m.volume)):
        room, misses = share, 0
        while room > one.volume / 2 and misses < TRIES:
            rotation = Rotation.random(rng=site.rng)
            part = site.rng.uniform(-0.5, 0.5, 3)
            cube = rotated(one, rotation, part)
            at = _find_room(site, cube, one.radius)
            if at is None:
                misses += 1
                continue
            room, misses = room - one.volume, 0
            position = at + part - (0, 0, site.margin)
            if -0.5 <= position[2] < nx - 2 * site.margin - 0.5 and -0.5 <= position[1] < ny - 0.5:
                placements.append(Placement(one.name, (float(position[0]), float(position[1]), float(position[2])), rotation))
        say(progress, "species of molecules", i + 1, len(molecules))
    return placements


def _find_room(site: Site, cube: np.ndarray, radius: float) -> np.ndarray | None:
    """Add a turned molecule where nothing is; its middle voxel (z, y, x), or None after many tries."""
    half = cube.shape[0] // 2
    body = cube > BODY * cube.max()
    for _ in range(20 * TRIES):
        centre = np.rint(site.place(min(radius, 0.4 * (site.high - site.low)))).astype(int)
        if site.taken[tuple(np.clip(centre, 0, np.array(site.shape) - 1))]:
            continue
        inside = [(max(c - half, 0), min(c + half + 1, n)) for c, n in zip(centre, site.shape, strict=True)]
        place_in = tuple(slice(a, b) for a, b in inside)
        place_of = tuple(slice(a - c + half, b - c + half) for (a, b), c in zip(inside, centre, strict=True))
        if (site.taken[place_in] & body[place_of]).any():
            continue
        site.density[place_in] += cube[place_of]
        site.taken[place_in] |= body[place_of]
        return centre
    return None
