"""Prints what is known of a tomogram before it is restored."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cryovae.evaluate.wedge_seen import wedge_seen
from cryovae.io.files import read_volume
from cryovae.tomogram import TiltGeometry


def print_information(path: Path, tilts: TiltGeometry | None, voxel_size: float | None) -> None:
    """Header, statistics and the wedge in the power spectrum of one volume."""
    volume = read_volume(path)
    density = np.asarray(volume.density, dtype=np.float32)
    nz, ny, nx = density.shape
    size = volume.voxel_size
    finite = density[np.isfinite(density)]
    print(f"file          {path}")
    print(f"shape         {nz} x {ny} x {nx} (z, y, x)")
    print(f"stored as     {volume.stored}")
    print(
        f"voxel size    {size[0]:g} x {size[1]:g} x {size[2]:g} angstrom (x, y, z)"
        + (f", --voxel-size {voxel_size:g}" if voxel_size else "")
    )
    print(f"origin        {volume.origin[0]:g} x {volume.origin[1]:g} x {volume.origin[2]:g} angstrom")
    print(f"grey levels   {finite.min():g} to {finite.max():g}, mean {finite.mean():g}, std {finite.std():g}")
    if len(finite) < density.size:
        print(f"not finite    {density.size - len(finite)} voxels: NaN or infinite")
        return
    for note in volume.notes:
        print(f"note          {note.removeprefix(f'{path}: ')}")
    for number, label in enumerate(volume.labels):
        print(f"label {number}       {label}")
    if finite.min() == finite.max():
        return
    seen = wedge_seen(density)
    contrast = f"contrast {seen.contrast:.1f}"
    print(
        f"wedge seen    tilts from {seen.lowest:.0f} to {seen.highest:.0f} degrees in the power spectrum (about +-3), {contrast}"
    )
    if tilts is not None:
        print(f"wedge given   tilts from {tilts.lowest:g} to {tilts.highest:g} degrees, {tilts.missing:.0f} missing")
        if seen.contrast > 4 and max(abs(seen.lowest - tilts.lowest), abs(seen.highest - tilts.highest)) > 8:
            mirrored = max(abs(seen.lowest + tilts.highest), abs(seen.highest + tilts.lowest)) <= 8
            print("warning       the two disagree" + (": the sign of the angles may be turned" if mirrored else ""))
