"""Reads molecules for simulation from MRC maps, PDB and mmCIF files, as cubes with the voxel size of the tomogram.

    x(r) = sum_atoms Z_a N(r; r_a, s^2 I),      s = 0.225 * 2 voxels,       scaled to <x> = 1 over the body of the molecule

s = 0.225 d is the usual width of the Gaussians of a simulated map of resolution d (UCSF Chimera, molmap); here d is 2 voxels.
Each map is normalised: the background is 0, and the body, the voxels above a fifth of the maximum, has mean 1.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import affine_transform, gaussian_filter

from cryovae.errors import InputError
from cryovae.io.files import read_volume
from cryovae.io.volume import voxel_size_of

MODELS = (".pdb", ".ent", ".cif", ".mmcif")
MAPS = (".mrc", ".map", ".ccp4", ".rec")
BODY = 0.2
# Atoms are placed on a grid this many times finer than the voxels before they are blurred.
OVERSAMPLING = 2
BLUR = 0.225 * 2
MAX_VOXELS = 400


@dataclass(frozen=True)
class Molecule:
    """A molecule on a cube of voxels.

    Attributes:
        name: name in the tables of positions.
        density: cube (n, n, n) with axes z, y, x and odd n; mean 1 in the body, background 0. The middle voxel is the position.
        radius: largest distance of a voxel of the body from the middle, in voxels.
    """

    name: str
    density: np.ndarray
    radius: float

    @property
    def volume(self) -> int:
        """Number of voxels of the body."""
        return int((self.density > BODY * self.density.max()).sum())


def molecule(name: str, density: np.ndarray, centre: np.ndarray) -> Molecule:
    """Normalise a map, and cut out a cube of odd side that contains the body and a margin of two voxels.

    Args:
        name: name of the molecule.
        density: map (z, y, x).
        centre: index (z, y, x) of the voxel that becomes the middle of the cube.

    Raises:
        InputError: the map is flat.
    """
    density = density.astype(np.float32)
    faces = np.concatenate([np.take(density, side, axis).ravel() for axis in range(3) for side in (0, -1)])
    density = np.clip(density - np.median(faces), 0, None)
    body = density > BODY * density.max()
    if not body.any():
        raise InputError(f"molecule {name} is flat, expected a density brighter than its surroundings: check the file")
    density = density / density[body].mean()
    offset = np.argwhere(body) - centre
    radius = float(np.sqrt((offset**2).sum(1)).max())
    half = int(np.ceil(np.abs(offset).max())) + 2
    start = np.asarray(centre, dtype=int) - half
    cube = np.zeros((2 * half + 1,) * 3, dtype=np.float32)
    inside = [(max(s, 0), min(s + 2 * half + 1, n)) for s, n in zip(start, density.shape, strict=True)]
    source = tuple(slice(a, b) for a, b in inside)
    target = tuple(slice(a - s, b - s) for (a, b), s in zip(inside, start, strict=True))
    cube[target] = density[source]
    return Molecule(name, cube, radius)


def read_molecule(path: Path, voxel_size: float) -> Molecule:
    """Read a molecule from an MRC map, or from a PDB or mmCIF file.

    The position of a map is its voxel n // 2, as in RELION. The position of an atomic model is its centre of mass. If the file
    describes biological assemblies, the first one is used.

    Args:
        path: the file, plain or .gz.
        voxel_size: voxel size of the density in angstrom.

    Raises:
        InputError: the file is missing, of another kind, unreadable, empty or too large.
    """
    path = Path(path)
    suffix = Path(path.name.removesuffix(".gz").removesuffix(".bz2")).suffix.lower()
    name = path.name.split(".")[0]
    if not os.path.isfile(path):
        raise InputError(f"molecule {path} does not exist: check the path")
    if suffix in MODELS:
        return molecule_of_atoms(name, *_read_atoms(path), voxel_size)
    if suffix in MAPS:
        return _from_map(path, name, voxel_size)
    raise InputError(f"molecule {path} has the ending '{suffix}', expected one of {', '.join(MAPS + MODELS)}, plain or .gz")


def _read_atoms(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Positions (atoms, 3) as z, y, x in angstrom and weights (atoms,), atomic number times occupancy; waters are left out."""
    import gemmi

    try:
        structure = gemmi.read_structure(str(path))
    except (RuntimeError, ValueError, OSError, EOFError, IndexError) as error:
        # A file of mmCIF without any content is an IndexError of gemmi.
        why = (str(error).splitlines() or ["it is empty"])[0]
        raise InputError(f"molecule {path} cannot be read ({why}): give a PDB or mmCIF file, plain or .gz") from error
    structure.setup_entities()
    structure.remove_waters()
    model: Any = structure[0] if len(structure) else None
    if model is not None and structure.assemblies:
        # Some files describe assemblies of chains that they do not hold; the model itself is used then.
        with suppress(RuntimeError):
            model = gemmi.make_assembly(structure.assemblies[0], model, gemmi.HowToNameCopiedChain.Dup)
    rows = [] if model is None else [
        (a.atom.pos.z, a.atom.pos.y, a.atom.pos.x, a.atom.occ * a.atom.element.atomic_number) for a in model.all()
    ]  # fmt: skip
    if not rows:
        raise InputError(f"molecule {path} holds no atoms: give a PDB or mmCIF file with a model")
    table = np.array(rows)
    return table[:, :3], table[:, 3]


def molecule_of_atoms(name: str, places: np.ndarray, weights: np.ndarray, voxel_size: float) -> Molecule:
    """A molecule from its atoms, about their centre of mass.

    Args:
        name: of the molecule.
        places: (atoms, 3), z, y, x in angstrom.
        weights: (atoms,), scattering of each.
        voxel_size: voxel size of the density in angstrom.

    Raises:
        InputError: the molecule is wider than 400 voxels.
    """
    centred = (places - np.average(places, axis=0, weights=np.maximum(weights, 1e-3))) / voxel_size
    half = int(np.ceil(np.abs(centred).max() + 4 * BLUR)) + 2
    side = OVERSAMPLING * 2 * half + 1
    if side > OVERSAMPLING * MAX_VOXELS:
        raise InputError(
            f"molecule {name} is {side // OVERSAMPLING} voxels wide at {voxel_size:g} angstrom, expected {MAX_VOXELS} at most"
        )
    grid = np.zeros((side,) * 3, dtype=np.float32)
    at = centred * OVERSAMPLING + OVERSAMPLING * half
    below = np.floor(at).astype(int)
    part = at - below
    for corner in np.ndindex(2, 2, 2):
        share = np.prod(np.where(corner, part, 1 - part), axis=1)
        np.add.at(grid, tuple((below + corner).T), share * weights)
    fine = gaussian_filter(grid, BLUR * OVERSAMPLING)
    return molecule(name, fine[(slice(None, None, OVERSAMPLING),) * 3], np.full(3, half))


def _from_map(path: Path, name: str, voxel_size: float) -> Molecule:
    volume = read_volume(path)
    density = np.asarray(volume.density, dtype=np.float32)
    if not np.isfinite(density).all():
        raise InputError(f"molecule {path} holds NaN or infinite voxels: mend it first")
    factor = voxel_size / voxel_size_of(volume, None)
    centre = np.array([n // 2 for n in density.shape])
    if abs(factor - 1) < 0.01:
        return molecule(name, density, centre)
    sides = np.array([2 * int(np.ceil(n / factor / 2)) + 1 for n in density.shape])
    if sides.max() > MAX_VOXELS:
        raise InputError(
            f"molecule {path} is {sides.max()} voxels wide at {voxel_size:g} angstrom, expected {MAX_VOXELS} at most"
        )
    # Blurring first avoids aliasing of detail finer than the new voxels.
    blurred = gaussian_filter(density, 0.5 * np.sqrt(factor**2 - 1)) if factor > 1 else density
    edge = float(np.median(density[0]))
    resampled = affine_transform(
        blurred, np.full(3, factor), centre - (sides // 2) * factor, tuple(sides), order=1, mode="constant", cval=edge
    )
    return molecule(name, resampled, sides // 2)
