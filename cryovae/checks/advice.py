"""What to do with a tomogram, and why: binning, halves, a mask, beads. Lines for ``cryovae info``.

None of it refuses or changes anything.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import uniform_filter

from cryovae.data.beads import find_beads
from cryovae.errors import InputError

# Angstrom of a voxel below which binning is advised, and which is aimed at; the size from which no fine detail is left.
FINE, AIMED, COARSE = 6.0, 10.0, 20.0
# Width in angstrom of a ribosome, which a patch should hold.
RIBOSOME = 300.0
# Width in voxels of the means whose variance tells specimen from ice; share of the usual variance below which a section is empty.
SMOOTH, EMPTY_SHARE = 5, 0.5
# Variance of a section beside the largest one, below which it is constant and no ice.
CONSTANT = 1e-4
# Share of the sections from which a mask is advised.
MUCH_ICE = 0.25


def size_advice(voxel_size: float, patch: int) -> str:
    """Whether to bin or to keep a voxel size, in angstrom; patches have ``patch`` voxels along a side."""
    width = patch * voxel_size
    if voxel_size < FINE:
        factor = max(2, round(AIMED / voxel_size))
        return (
            f"bin it by {factor}, to {factor * voxel_size:g} angstrom: a patch of {patch} voxels is {width:.0f} angstrom wide "
            f"now, a ribosome {RIBOSOME:.0f}; noise is most of what finer voxels add"
        )
    if voxel_size > COARSE:
        finest = f"{2 * voxel_size:g} angstrom"
        return f"voxels of {voxel_size:g} angstrom hold no detail below {finest}: reconstruct it with finer ones"
    return f"keep the voxel size: patches of {patch} voxels are {width:.0f} angstrom wide, and hold a ribosome ({RIBOSOME:.0f})"


def halves_advice(is_half: bool) -> str:
    """What to say of halves; is_half: whether the name is that of one."""
    if is_half:
        return "give both halves, --half1 and --half2: their difference measures the noise, and each is restored for an FSC"
    return (
        "if there are even and odd halves, give them, --half1 and --half2: of one volume the noise is guessed from its quietest "
        "patches"
    )


def mask_advice(density: np.ndarray) -> str | None:
    """Advice on a mask for a tomogram (z, y, x) with the beam along z, or None if the specimen takes most of its depth."""
    smooth = uniform_filter(np.asarray(density, dtype=np.float32), SMOOTH)
    variance = smooth.var(axis=(1, 2))
    variance = variance[variance > CONSTANT * variance.max()]
    if not len(variance):
        return None
    usual = float(np.median(np.sort(variance)[len(variance) // 2 :]))
    empty = variance < EMPTY_SHARE * usual
    top, bottom = _run(empty[::-1]), _run(empty)
    if (top + bottom) < MUCH_ICE * len(empty):
        return None
    return (
        f"make a mask, cryovae mask, and pass it with --mask: the lowest {bottom} and the highest {top} of {len(empty)} sections "
        "vary little, so they are ice, and patches from there teach nothing"
    )


def bead_advice(density: np.ndarray, voxel_size: float) -> str | None:
    """Advice on gold beads, or None if none stands out."""
    try:
        beads = find_beads(density, voxel_size)
    except InputError:
        return None
    if not beads:
        return None
    count = "a gold bead stands" if len(beads) == 1 else f"{len(beads)} gold beads stand"
    return f"{count} out: keep them out of all fits with cryovae mask --exclude-beads, and pass the mask with --mask"


def _run(flags: np.ndarray) -> int:
    """How many flags are set before the first that is not."""
    return int(np.argmin(flags)) if not flags.all() else len(flags)
