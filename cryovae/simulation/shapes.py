"""Shapes of a cell: made-up molecules, membranes, filaments and gold, as densities (z, y, x) in units of protein.

    bilayer     b(d) = a ( exp(-(d - h)^2 / 2 s^2) + exp(-(d + h)^2 / 2 s^2) - c exp(-d^2 / 2 s^2) ),  d to its middle
    helix       r_n = c(n rise) + R ( e1 cos n twist + e2 sin n twist ),                       subunits n along a curved axis c

The head groups of a bilayer are about 38 angstrom apart. Actin has a rise of 27.5 angstrom and a twist of -166.7 degrees. A
microtubule of 13 protofilaments is three helices of monomers, 40 angstrom apart, with a rise of 120/13 angstrom and a twist of
-360/13 degrees.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cryovae.io.molecules import Molecule, molecule

# Half the distance of the head groups, and their width, in angstrom; the height of the heads beside protein, and the depth of
# the tails beside that.
HEADS, WIDTH, LIPID, TAILS = 19.0, 7.0, 0.8, 0.15
# Half the thickness in angstrom around a membrane in which no molecule is placed.
THICKNESS = 35.0
# Scattering of gold relative to that of protein, both above ice.
GOLD = 10.0


@dataclass(frozen=True)
class Helix:
    """A filament of helically arranged subunits.

    Attributes:
        name: of the filament.
        radius: distance of the subunit centres from the axis, in angstrom.
        rise: in angstrom per subunit.
        twist: in degrees per subunit.
        subunit: radius of a subunit in angstrom.
        starts: number of such helices, evenly spaced along the pitch.
    """

    name: str
    radius: float
    rise: float
    twist: float
    subunit: float
    starts: int = 1

    @property
    def reach(self) -> float:
        """Outer radius in angstrom."""
        return self.radius + 1.5 * self.subunit

    def subunits(self, start: np.ndarray, axes: np.ndarray, bend: float, length: float, phase: float) -> np.ndarray:
        """Centres of the subunits along an arc.

        Args:
            start: start of the axis in angstrom.
            axes: (3, 3), rows: the direction of the filament, and two directions across it.
            bend: curvature towards the second row, per angstrom.
            length: of the filament in angstrom.
            phase: of the first subunit.

        Returns:
            (n, 3), in angstrom, in the frame of ``start``.
        """
        n = np.tile(np.arange(int(length / self.rise)), self.starts)
        shift = 0.0 if self.starts == 1 else 360 / abs(self.twist) * self.rise / self.starts
        along = (n * self.rise + shift * np.repeat(np.arange(self.starts), len(n) // self.starts))[:, None]
        rotation = np.radians(self.twist) * n + phase
        ring = self.radius * (np.cos(rotation)[:, None] * axes[1] + np.sin(rotation)[:, None] * axes[2])
        return start + along * axes[0] + 0.5 * bend * along**2 * axes[1] + ring


ACTIN = Helix("actin", 25.0, 27.5, -166.7, 20.0)
MICROTUBULE = Helix("microtubule", 112.0, 120.0 / 13, -360.0 / 13, 25.0, 3)


def bilayer(distance: np.ndarray, voxel_size: float) -> np.ndarray:
    """Density at a signed distance from the middle of a membrane, in voxels of ``voxel_size`` angstrom."""
    width = max(WIDTH / voxel_size, 0.7)
    heads = HEADS / voxel_size

    def bump(d: np.ndarray) -> np.ndarray:
        return np.exp(-(d**2) / (2 * width**2))

    made: np.ndarray = LIPID * (bump(distance - heads) + bump(distance + heads) - TAILS * bump(distance))
    return made


def sphere(distance: np.ndarray, radius: float) -> np.ndarray:
    """1 inside the radius, falling to 0 over one voxel; distance and radius in voxels."""
    return np.clip(radius + 0.5 - distance, 0, 1)


def made_up_molecule(name: str, rng: np.random.Generator, voxel_size: float) -> Molecule:
    """A made-up molecule of 100 to 250 angstrom: a chain of Gaussian blobs that folds back on itself."""
    count = int(rng.integers(14, 40))
    places = [np.zeros(3)]
    for _ in range(count - 1):
        step = rng.normal(size=3)
        step *= rng.uniform(16, 26) / np.linalg.norm(step)
        places.append(places[-1] * 0.92 + step)
    centred = (np.array(places) - np.mean(places, axis=0)) / voxel_size
    widths = np.maximum(rng.uniform(9, 17, count) / voxel_size, 0.7)
    half = int(np.ceil(np.abs(centred).max() + 4 * widths.max()))
    axis = np.arange(-half, half + 1, dtype=np.float32)
    factors = [np.exp(-((axis - p[:, None]) ** 2) / (2 * widths[:, None] ** 2)) for p in centred.T]
    cube = np.einsum("n,nz,ny,nx->zyx", rng.uniform(0.6, 1.4, count), *factors, optimize=True)
    return molecule(name, 1 - np.exp(-cube), np.full(3, half))
