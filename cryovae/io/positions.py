"""Writes positions and orientations of molecules as a STAR file, in RELION's convention.

    r_tomogram = A^T r_map + position,      A = R_z(-psi) R_y(-tilt) R_z(-rot)

rlnCoordinateX, Y, Z are in voxels, 0 at the centre of the first voxel. rlnCenteredCoordinate...Angst are in angstrom from voxel
n // 2. The angles rot, tilt and psi are intrinsic about z, y, z, in degrees. rlnGroupName is the name of the molecule.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from cryovae.io.atomic import whole_file
from cryovae.io.star.table import write_star


def relion_angles(rotation: Rotation) -> np.ndarray:
    """Angles rot, tilt, psi (..., 3) in degrees of rotations from map to tomogram coordinates (x, y, z)."""
    angles: np.ndarray = rotation.inv().as_euler("ZYZ", degrees=True)
    return angles


def write_positions(
    path: Path,
    tomogram: str,
    names: Sequence[str],
    positions: np.ndarray,
    rotations: Rotation | None,
    shape: Sequence[int],
    voxel_size: float,
) -> None:
    """Write a table of molecules.

    Args:
        path: the STAR file, written atomically.
        tomogram: name of the tomogram.
        names: name of each molecule.
        positions: positions (n, 3) as z, y, x in voxels, 0 at the centre of the first voxel.
        rotations: rotation from each map to the tomogram, or None if there are no molecules.
        shape: shape (z, y, x) of the tomogram.
        voxel_size: voxel size in angstrom.
    """
    import pandas

    places = np.asarray(positions, dtype=float).reshape(-1, 3)[:, ::-1]
    middle = np.array(shape)[::-1] // 2
    angles = relion_angles(rotations) if rotations is not None else np.zeros((0, 3))
    classes = {name: i + 1 for i, name in enumerate(dict.fromkeys(names))}
    columns: dict[str, object] = {"rlnTomoName": [tomogram] * len(names)}
    columns |= {f"rlnCoordinate{axis}": places[:, i].round(3) for i, axis in enumerate("XYZ")}
    centred = (places - middle) * voxel_size
    columns |= {f"rlnCenteredCoordinate{axis}Angst": centred[:, i].round(2) for i, axis in enumerate("XYZ")}
    columns |= {f"rlnAngle{name}": angles[:, i].round(3) for i, name in enumerate(("Rot", "Tilt", "Psi"))}
    columns |= {"rlnGroupName": list(names), "rlnClassNumber": [classes[name] for name in names], "rlnOpticsGroup": 1}
    optics = pandas.DataFrame({"rlnOpticsGroup": [1], "rlnOpticsGroupName": ["simulated"], "rlnImagePixelSize": [voxel_size]})
    blocks = {"optics": optics, "particles": pandas.DataFrame(columns)}
    with whole_file(path) as beside:
        write_star(blocks, beside)
