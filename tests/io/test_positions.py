"""Positions and angles in the STAR file follow RELION's convention."""

import numpy as np
import starfile
from scipy.spatial.transform import Rotation

from cryovae.io.positions import relion_angles, write_positions
from tests.helpers.relion import rotation_from_angles


def test_angles_are_relions_matrix():
    """RELION's matrix of (rot, tilt, psi) maps coordinates of the tomogram to those of the map; its inverse places the map."""
    rot, tilt, psi = np.radians([25.0, 70.0, -130.0])
    ca, cb, cg, sa, sb, sg = np.cos(rot), np.cos(tilt), np.cos(psi), np.sin(rot), np.sin(tilt), np.sin(psi)
    relion = np.array(
        [
            [cg * cb * ca - sg * sa, cg * cb * sa + sg * ca, -cg * sb],
            [-sg * cb * ca - cg * sa, -sg * cb * sa + cg * ca, sg * sb],
            [sb * ca, sb * sa, cb],
        ]
    )
    np.testing.assert_allclose(rotation_from_angles(np.array([25.0, 70.0, -130.0])).as_matrix(), relion, atol=1e-12)
    np.testing.assert_allclose(relion_angles(Rotation.from_matrix(relion)), [25.0, 70.0, -130.0], atol=1e-9)


def test_file_holds_positions_and_angles(tmp_path):
    rng = np.random.default_rng(0)
    rotations = Rotation.random(5, rng=rng)
    positions = rng.uniform(0, 30, (5, 3))
    names = ["a", "b", "a", "b", "b"]
    for name in ("one.star", "two.star"):
        write_positions(tmp_path / name, "ts", names, positions, rotations, (40, 60, 50), 8.0)
    assert (tmp_path / "one.star").read_bytes() == (tmp_path / "two.star").read_bytes()
    table = starfile.read(tmp_path / "one.star")["particles"]
    np.testing.assert_allclose(table[["rlnCoordinateZ", "rlnCoordinateY", "rlnCoordinateX"]], positions, atol=1e-3)
    centred = (positions - (20, 30, 25)) * 8.0
    columns = [f"rlnCenteredCoordinate{axis}Angst" for axis in "ZYX"]
    np.testing.assert_allclose(table[columns], centred, atol=1e-2)
    again = rotation_from_angles(table[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]].to_numpy())
    assert float((again * rotations.inv()).magnitude().max()) < 1e-4
    np.testing.assert_allclose(relion_angles(rotations), table[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]], atol=1e-3)
    assert list(table["rlnGroupName"]) == names


def test_no_molecules_is_a_file_too(tmp_path):
    write_positions(tmp_path / "none.star", "ts", [], np.zeros((0, 3)), None, (40, 60, 50), 8.0)
    assert "rlnCoordinateX" in (tmp_path / "none.star").read_text()
