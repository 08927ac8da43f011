"""Procedural molecules: symmetric assemblies of compact subunits, as points that stand for groups of atoms.

    molecule = union of g(subunit + d u),  g in a point group        subunit = points that fill a union of ellipsoidal domains

Domains have radii of 12 to 26 angstrom, as those of proteins, and touch. Groups are cyclic, dihedral, tetrahedral, octahedral and
icosahedral, so there are globules, rods, rings, barrels and shells. The density of a domain varies by a few waves of 15 to 45
angstrom, and some domains are heavier, as RNA is beside protein. A kind is a number: the same number gives the same molecule.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import label
from scipy.spatial.transform import Rotation

from cryovae.io.molecules import Molecule, molecule_of_atoms

# Distance of the points of a domain, and their random shift, in angstrom; one point stands for about 90 cubic angstrom.
SPACING, JITTER = 4.5, 1.0
# Points of two subunits in the same cell of this side, in angstrom, are one point.
CELL = 4.0
# Side in angstrom of the cells by which an assembly is seen to be in one piece.
CONTACT = 8.0
# Weight of a heavy domain beside that of protein, and the share of molecules that have some.
HEAVY, HEAVY_SHARE = 1.6, 0.25
# Points of a molecule at most; symmetries that would need more are not drawn.
MOST_POINTS = 60_000
GROUPS = ("C1", "C2", "C3", "C4", "C5", "C6", "C7", "C8", "C12", "D2", "D3", "D4", "D5", "D6", "D7", "T", "O", "I")
# Half of the molecules have no symmetry.
CHANCES = (0.3, *(0.7 / (len(GROUPS) - 1),) * (len(GROUPS) - 1))


def procedural_molecule(kind: int, voxel_size: float) -> Molecule:
    """The molecule of a number.

    Args:
        kind: at least 0.
        voxel_size: in angstrom.
    """
    rng = np.random.default_rng([kind, 18])
    points, weights = _subunit(rng)
    places, masses = _assembled(points, weights, rng)
    return molecule_of_atoms(f"kind{kind}", places, masses, voxel_size)


def _subunit(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, 3) in angstrom and weights (n,) of a few touching domains, their centre of mass at 0."""
    count = int(rng.integers(1, 7))
    radii = rng.uniform(12, 26, count)
    # A rod goes on in its direction; a globule goes anywhere from any of its domains.
    is_rod = rng.random() < 0.2
    heading = _direction(rng)
    centres = [np.zeros(3)]
    for i in range(1, count):
        parent = i - 1 if is_rod else int(rng.integers(i))
        away = heading + 0.3 * rng.normal(size=3) if is_rod else _direction(rng)
        centres.append(centres[parent] + away / np.linalg.norm(away) * rng.uniform(0.75, 1.0) * 0.9 * (radii[parent] + radii[i]))
    is_heavy = (rng.random() < HEAVY_SHARE) & (rng.random(count) < 0.5)
    points, weights = [], []
    for centre, radius, heavy in zip(centres, radii, is_heavy, strict=True):
        inside = _filled(radius * rng.uniform(0.75, 1.25, 3), rng)
        points.append(inside + centre)
        weights.append(np.full(len(inside), HEAVY if heavy else 1.0))
    places, masses = _thinned(np.concatenate(points), np.concatenate(weights))
    masses = masses * _waves(places, rng)
    return places - np.average(places, axis=0, weights=masses), masses


def _filled(half_axes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Points (n, 3) on a jittered grid in an ellipsoid of random orientation."""
    counts = np.ceil(half_axes / SPACING).astype(int)
    grid = np.stack(np.meshgrid(*[np.arange(-n, n + 1) * SPACING for n in counts], indexing="ij"), -1).reshape(-1, 3)
    kept = grid[((grid / half_axes) ** 2).sum(1) <= 1]
    rotated: np.ndarray = Rotation.random(rng=rng).apply(kept + rng.normal(scale=JITTER, size=kept.shape))
    return rotated


def _waves(places: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Factors (n,) above 0.2 that vary over space, with mean about 1: helices, sheets and cavities."""
    total = np.ones(len(places))
    for _ in range(6):
        wave = _direction(rng) * 2 * np.pi / rng.uniform(15, 45)
        total += 0.22 * np.cos(places @ wave + rng.uniform(0, 2 * np.pi))
    clipped: np.ndarray = np.clip(total, 0.2, None)
    return clipped


def _assembled(points: np.ndarray, weights: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric copies of a subunit that touch, as points (n, 3) and weights (n,)."""
    for _ in range(20):
        group = Rotation.create_group(str(rng.choice(GROUPS, p=CHANCES)))
        if len(group) * len(points) <= MOST_POINTS:
            break
    else:
        group = Rotation.identity(1)
    if len(group) == 1:
        return points, weights
    place = _direction(rng)
    for _ in range(50):
        # Close to an axis of symmetry all copies would lie on top of each other.
        separation = np.sort(np.linalg.norm(group.apply(place) - place, axis=1))[1]
        if separation > 0.35:
            break
        place = _direction(rng)
    rotated = Rotation.random(rng=rng).apply(points)
    shifted = rotated + _touching(rotated, place, group) * place
    copies = np.concatenate([one.apply(shifted) for one in group])
    return _thinned(copies, np.tile(weights, len(group)))


def _touching(points: np.ndarray, place: np.ndarray, group: Rotation) -> float:
    """The largest distance of a subunit from the centre, in angstrom, at which it and its copies are in one piece."""
    sample = points[:: max(len(points) // 600, 1)]
    reach = float(np.linalg.norm(sample, axis=1).max())
    for distance in np.linspace(2.5 * reach, 0, 30):
        shifted = sample + distance * place
        cells = np.unique(np.floor(np.concatenate([one.apply(shifted) for one in group]) / CONTACT).astype(int), axis=0)
        cells -= cells.min(0)
        occupied = np.zeros(cells.max(0) + 1, dtype=bool)
        occupied[tuple(cells.T)] = True
        if label(occupied, np.ones((3, 3, 3)))[1] == 1:
            return float(distance)
    return 0.0


def _thinned(places: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most one point in each cell, so that overlapping domains are no denser than others."""
    _, first = np.unique(np.floor(places / CELL).astype(int), axis=0, return_index=True)
    first.sort()
    return places[first], weights[first]


def _direction(rng: np.random.Generator) -> np.ndarray:
    step = rng.normal(size=3)
    unit: np.ndarray = step / np.linalg.norm(step)
    return unit
