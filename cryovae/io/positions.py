"""Molecules' positions and orientations as a STAR file, in RELION's convention.

    r_tomogram = A^T r_map + position,      A = R_z(-psi) R_y(-tilt) R_z(-rot)

rlnCoordinateX, Y, Z are voxels counted from 0 at the centre of the first voxel; rlnCenteredCoordinate...Angst angstrom from voxel
n // 2; the angles are rot, tilt and psi, intrinsic about z, y, z, in degrees. rlnGroupName is the molecule's name.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from cryovae.io.atomic import whole_file


def relion_angles(rotation: Rotation) -> np.ndarray:
    """Rot, tilt, psi (..., 3) in degrees of rotations that turn coordinates (x, y, z) of the map into those of the tomogram."""
    angles: np.ndarray = rotation.inv().as_euler("ZYZ", degrees=True)
    return angles


def rotation_of(angles: np.ndarray) -> Rotation:
    """The rotations from the map to the tomogram, of rot, tilt, psi (..., 3) in degrees."""
    return Rotation.from_euler("ZYZ", angles, degrees=True).inv()


def write_positions(
    path: Path,
    tomogram: str,
    names: Sequence[str],
    positions: np.ndarray,
    rotations: Rotation | None,
    shape: Sequence[int],
    voxel_size: float,
) -> None:
    """Write positions (n, 3), z, y, x in voxels of a tomogram of ``shape``, and rotations; voxel_size in angstrom."""
    import pandas
    import starfile

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
        starfile.write(blocks, beside, overwrite=True)
        # The first line is the time of day; the same simulation makes the same files.
        lines = beside.read_text().splitlines(keepends=True)
        beside.write_text("".join(line for line in lines if not line.startswith("#")).lstrip())
