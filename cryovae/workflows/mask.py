"""Makes the mask of a specimen: 1 near dense voxels where the density varies, 0 elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cryovae.errors import InputError
from cryovae.workflows.options import option

if TYPE_CHECKING:
    from cryovae.data.beads import Bead


@dataclass(frozen=True)
class MaskOptions:
    """The criteria of ``data.masking.specimen_mask``; the percentages are those of IsoNet, 100 switches a criterion off."""

    density_percentage: float = option("Percentage of voxels kept by the local density.", default=50.0)
    std_percentage: float = option("Percentage of voxels kept by the local standard deviation.", default=50.0)
    patch_size: int = option("Half the side of the local window, in pairs of voxels.", default=4)
    z_crop: float = option("Fraction of the depth that is left out, half at the top and half at the bottom.", default=0.0)
    bright: bool = option("Protein is brighter than ice.", "--bright", default=False)
    exclude_beads: bool = option(
        "Find gold beads and leave them out: patches without them come first in training, they count in no fit, and they stay "
        "as they are in the result.",
        "--exclude-beads",
        default=False,
    )
    bead_diameter: float | None = option("Diameter of the beads in nanometres; without it 5, 7, 10, 15 and 20 are tried.")


def write_mask(
    tomogram: Path,
    target: Path,
    options: MaskOptions,
    unrotated: bool | None = None,
    voxel_size: float | None = None,
    overwrite: bool = False,
) -> tuple[float, list[Bead]]:
    """Write the mask of a tomogram, in the orientation of its file.

    Args:
        tomogram: an MRC file or OME-Zarr folder.
        target: where the mask goes.
        options: the criteria.
        unrotated: whether the beam is along the middle axis of the file; None to detect it.
        voxel_size: in angstrom, over the header.
        overwrite: whether a file at ``target`` is replaced.

    Returns:
        The fraction of voxels in the mask, and the beads that it leaves out.

    Raises:
        InputError: the tomogram cannot be used, or there is a file at ``target``.
    """
    import numpy as np

    from cryovae.data.beads import bead_mask, find_beads
    from cryovae.data.masking import specimen_mask
    from cryovae.io.files import read_volume, write_volume
    from cryovae.io.load import BEADS
    from cryovae.io.orientation import as_stored, upright
    from cryovae.io.outputs import check_file
    from cryovae.io.volume import voxel_size_of
    from cryovae.workflows.orientation import is_unrotated

    check_file(target)
    if options.bead_diameter is not None and not options.exclude_beads:
        raise InputError("--bead-diameter found without --exclude-beads, expected both, or neither")
    if target.exists() and not overwrite:
        raise InputError(f"{target} is there already: pass --overwrite, or another name with -o")
    volume = read_volume(tomogram)
    size = voxel_size_of(volume, voxel_size)
    density = np.asarray(volume.density)
    if not np.isfinite(density).all():
        raise InputError(f"{tomogram} has voxels that are NaN or infinite: reconstruct it again, or mend them first")
    rotated = is_unrotated(tomogram, unrotated)
    density = upright(density) if rotated else density
    criteria = options.density_percentage, options.std_percentage, options.patch_size, options.z_crop
    values = specimen_mask(density, *criteria, options.bright).astype(np.float32)
    note = "mask, density {:g} %, std {:g} %, patch {}, z crop {:g}".format(*criteria)
    beads = find_beads(density, size, options.bead_diameter, options.bright) if options.exclude_beads else []
    if beads:
        values[bead_mask(density, size, beads, options.bright)] = BEADS
        note += f", {len(beads)} beads at {BEADS:g}"
    write_volume(target, as_stored(values) if rotated else values, tomogram, size, note)
    return float((values > 0).mean()), beads


def in_words(beads: list[Bead]) -> str:
    """What to say of the beads that a mask leaves out."""
    if not beads:
        return "beads: none stands out"
    lowest, highest = min(bead.radius for bead in beads) / 5, max(bead.radius for bead in beads) / 5
    size = f"{lowest:g} nm" if lowest == highest else f"{lowest:g} to {highest:g} nm"
    weakest = min(bead.height for bead in beads)
    return f"beads: {len(beads)} of about {size}, the weakest {weakest:.0f} standard deviations above the rest; look at the mask"
