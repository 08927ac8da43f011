"""Places molecules in random orientations at random free positions, one after the other.

    placed(r) = x( R^-1 (r - r_i) )

Positions are indices (z, y, x) of voxels of the tomogram; 0 is the centre of the first voxel. R rotates coordinates (x, y, z)
of the map of a molecule into those of the tomogram.
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
    """Rotate a molecule into a cube.

    Args:
        one: the molecule.
        rotation: of coordinates (x, y, z).
        part: shift (z, y, x) of the molecule from the middle of the cube, in voxels, within -0.5 to 0.5.
    """
    half = one.density.shape[0] // 2
    reach = int(np.ceil(min(one.radius, half * 3**0.5))) + 2
    matrix = rotation.as_matrix()[::-1, ::-1].T
    offset = half - matrix @ (reach + part)
    return affine_transform(one.density, matrix, offset, (2 * reach + 1,) * 3, order=1)


def add_molecules(site: Site, molecules: Sequence[Molecule], crowding: float, progress: Progress | None) -> list[Placement]:
    """Add molecules to a site, large species first, and return those whose centre is inside the tomogram.

    Args:
        site: where molecules are added.
        molecules: one of each species.
        crowding: share of the volume of the slab that molecules fill; each species gets an equal part.
        progress: called after each species, or None.
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
    """Add a rotated molecule at a free position; return its middle voxel (z, y, x), or None after many tries."""
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
