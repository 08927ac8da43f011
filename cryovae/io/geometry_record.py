"""Converts a tilt geometry to its record in run.json and back: angles in degrees, and the fields that are not default."""

from __future__ import annotations

from dataclasses import asdict
from hashlib import sha256
from typing import Any

import numpy as np

from cryovae.tomogram import TiltGeometry, Tomogram

FIELDS = ("axis_angle", "x_tilt", "weights", "thickness", "conical")


def recorded(tilts: TiltGeometry) -> dict[str, Any]:
    """The record of a geometry, which ``geometry_of`` reads; lowest and highest are for people."""
    plain = TiltGeometry(tilts.angles)
    record: dict[str, Any] = {"lowest": tilts.lowest, "highest": tilts.highest, "angles": list(tilts.angles)}
    for name in FIELDS:
        value = getattr(tilts, name)
        if value != getattr(plain, name):
            record[name] = list(value) if isinstance(value, tuple) else value
    return record | ({} if tilts.second is None else {"second": recorded(tilts.second)})


def geometry_of(record: dict[str, Any]) -> TiltGeometry:
    """A geometry from its record; records of earlier versions hold lowest and highest only."""
    angles = tuple(float(a) for a in record.get("angles") or (record["lowest"], record["highest"]))
    known = {name: record[name] for name in FIELDS if name in record}
    if "weights" in known:
        known["weights"] = tuple(known["weights"])
    second = record.get("second")
    return TiltGeometry(angles, second=None if second is None else geometry_of(second), **known)


def checksums_of(tomogram: Tomogram) -> dict[str, str]:
    """SHA-256 of the voxels of a tomogram in memory, by role; they may be of no file."""
    volumes = {"density": tomogram.density, "mask": tomogram.mask}
    volumes |= {f"half{i + 1}": half for i, half in enumerate(tomogram.halves or ())}
    return {role: _checksum(volume) for role, volume in volumes.items() if volume is not None}


def _checksum(volume: Any) -> str:
    checksum = sha256(str(tuple(volume.shape)).encode())
    for section in volume:
        checksum.update(np.ascontiguousarray(section).tobytes())
    return checksum.hexdigest()


def described(tomogram: Tomogram) -> dict[str, Any]:
    """Tilts, voxel size in angstrom, orientation and optics of a tomogram, as run.json keeps them."""
    return {
        "tilts": recorded(tomogram.tilts),
        "voxel_size": tomogram.voxel_size,
        "unrotated": tomogram.unrotated,
        "optics": None if tomogram.optics is None else asdict(tomogram.optics),
    }
