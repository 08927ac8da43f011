"""A scene: molecules in random orientations between membranes, filaments and gold beads, without overlap.

    x(r) = sum_i x_species(i)( R_i^-1 (r - r_i) ) + membranes + filaments + beads,        0 in ice

The scene is wider than the tomogram along x, because tilted rays through the tomogram also cross matter beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cryovae.errors import InputError
from cryovae.io.molecules import Molecule
from cryovae.simulation.crowd import Placement, add_molecules
from cryovae.simulation.shapes import made_up_molecule
from cryovae.simulation.site import Progress, Site, say
from cryovae.simulation.structures import add_bead, add_filaments, add_sheet, add_vesicle

SMALLEST = 24


@dataclass(frozen=True)
class SceneConfig:
    """The content of a specimen.

    Attributes:
        shape: (z, y, x) of the tomogram in voxels, at least 24 each.
        voxel_size: in angstrom.
        crowding: largest share of the volume that molecules fill, 0 to 0.6.
        species: number of made-up molecules if no molecules are supplied.
        sheets: number of membrane sheets.
        vesicles: number of vesicles.
        filaments: number of filaments.
        beads: number of gold beads.
        lamella: thickness in angstrom of the slab along z that holds all matter; None for the depth of the tomogram.

    Raises:
        InputError: a value is out of its range.
    """

    shape: tuple[int, int, int] = (96, 128, 112)
    voxel_size: float = 10.0
    crowding: float = 0.2
    species: int = 5
    sheets: int = 1
    vesicles: int = 2
    filaments: int = 2
    beads: int = 3
    lamella: float | None = None

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < SMALLEST:
            raise InputError(f"shape {self.shape} found, expected three sizes of at least {SMALLEST} voxels, e.g. 96 128 112")
        if not self.voxel_size > 0:
            raise InputError(f"voxel size {self.voxel_size:g} found, expected angstrom above 0, e.g. 10")
        if not 0 <= self.crowding <= 0.6:
            raise InputError(f"crowding {self.crowding:g} found, expected a share of the volume within 0 to 0.6, e.g. 0.2")
        for name in ("species", "sheets", "vesicles", "filaments", "beads"):
            if getattr(self, name) < 0:
                raise InputError(f"{getattr(self, name)} {name} found, expected 0 or more")
        if self.lamella is not None and not 8 * self.voxel_size <= self.lamella <= self.shape[0] * self.voxel_size:
            raise InputError(
                f"lamella of {self.lamella:g} angstrom found, expected {8 * self.voxel_size:g} to "
                f"{self.shape[0] * self.voxel_size:g}, the tomogram's depth"
            )

    @property
    def slab(self) -> tuple[float, float]:
        """Lowest and highest z of matter, in voxels."""
        thickness = self.shape[0] if self.lamella is None else self.lamella / self.voxel_size
        middle = (self.shape[0] - 1) / 2
        return middle - thickness / 2, middle + thickness / 2


@dataclass(frozen=True)
class Scene:
    """A specimen.

    Attributes:
        density: (z, y, x + 2 margin) float32, protein 1, ice 0.
        placements: of the molecules whose middle is inside the tomogram.
        margin: voxels of matter on either side along x.
        beads: (z, y, x + 2 margin), True in gold.
        slab: lowest and highest z of matter in voxels.
    """

    density: np.ndarray
    placements: tuple[Placement, ...]
    margin: int
    beads: np.ndarray
    slab: tuple[float, float]

    @property
    def inside(self) -> np.ndarray:
        """The density (z, y, x) of the tomogram itself."""
        return self.density[:, :, self.margin : self.density.shape[2] - self.margin]


def build_scene(
    config: SceneConfig, molecules: Sequence[Molecule], margin: int, rng: np.random.Generator, progress: Progress | None = None
) -> Scene:
    """Build a scene. Large molecules are placed first; each species is added until its share is reached or no room is left.

    Args:
        config: content of the scene.
        molecules: one of each species; if there are none, ``config.species`` molecules are made up.
        margin: voxels added on either side along x.
        rng: of the random numbers.
        progress: called with each step, or None.
    """
    species = list(molecules) or [made_up_molecule(f"chain{i + 1}", rng, config.voxel_size) for i in range(config.species)]
    for one in species:
        if 2 * one.radius > min(config.shape[1:]):
            raise InputError(
                f"molecule {one.name} is {2 * one.radius:.0f} voxels long, expected less than the tomogram's "
                f"{config.shape[1]} x {config.shape[2]} (y, x): make --shape or --voxel-size larger"
            )
    site = Site(config.shape, config.voxel_size, config.slab, margin, rng)
    for i in range(config.sheets):
        add_sheet(site)
        say(progress, "sheets", i + 1, config.sheets)
    vesicles = site.count(config.vesicles)
    for i in range(vesicles):
        add_vesicle(site)
        say(progress, "vesicles", i + 1, vesicles)
    add_filaments(site, site.count(config.filaments))
    for _ in range(site.count(config.beads)):
        add_bead(site)
    placements = add_molecules(site, species, config.crowding, progress)
    z = np.arange(site.shape[0], dtype=np.float32)
    within = np.clip(np.minimum(z - site.low, site.high - z) + 0.5, 0, 1)[:, None, None]
    return Scene(site.density * within, tuple(placements), margin, site.beads, config.slab)
