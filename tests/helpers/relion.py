"""Angles of RELION as rotations."""

import numpy as np
from scipy.spatial.transform import Rotation


def rotation_from_angles(angles: np.ndarray) -> Rotation:
    """The rotations from the map to the tomogram, of rot, tilt, psi (..., 3) in degrees."""
    return Rotation.from_euler("ZYZ", angles, degrees=True).inv()
