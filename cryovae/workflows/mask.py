"""Makes the mask of a specimen: 1 near dense voxels where the density varies, 0 elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryovae.errors import InputError
from cryovae.workflows.options import option


@dataclass(frozen=True)
class MaskOptions:
    """The criteria of ``data.masking.specimen_mask``; the percentages are those of IsoNet, 100 switches a criterion off."""

    density_percentage: float = option("Percentage of voxels kept by the local density.", default=50.0)
    std_percentage: float = option("Percentage of voxels kept by the local standard deviation.", default=50.0)
    patch_size: int = option("Half the side of the local window, in pairs of voxels.", default=4)
    z_crop: float = option("Fraction of the depth that is left out, half at the top and half at the bottom.", default=0.0)
    bright: bool = option("Protein is brighter than ice.", "--bright", default=False)


def write_mask(
    tomogram: Path,
    target: Path,
    options: MaskOptions,
    unrotated: bool | None = None,
    voxel_size: float | None = None,
    overwrite: bool = False,
) -> float:
    """Write the mask of a tomogram, in the orientation of its file.

    Args:
        tomogram: an MRC file or OME-Zarr folder.
        target: where the mask goes.
        options: the criteria.
        unrotated: whether the beam is along the middle axis of the file; None to detect it.
        voxel_size: in angstrom, over the header.
        overwrite: whether a file at ``target`` is replaced.

    Returns:
        The fraction of voxels in the mask.

    Raises:
        InputError: the tomogram cannot be used, or there is a file at ``target``.
    """
    import numpy as np

    from cryovae.data.masking import specimen_mask
    from cryovae.io.files import read_volume, write_volume
    from cryovae.io.orientation import as_stored, upright
    from cryovae.io.outputs import check_file
    from cryovae.io.volume import voxel_size_of
    from cryovae.workflows.orientation import is_unrotated

    check_file(target)
    if target.exists() and not overwrite:
        raise InputError(f"{target} is there already: pass --overwrite, or another name with -o")
    volume = read_volume(tomogram)
    size = voxel_size_of(volume, voxel_size)
    density = np.asarray(volume.density)
    if not np.isfinite(density).all():
        raise InputError(f"{tomogram} has voxels that are NaN or infinite: reconstruct it again, or mend them first")
    rotated = is_unrotated(tomogram, unrotated)
    mask = specimen_mask(
        upright(density) if rotated else density,
        options.density_percentage,
        options.std_percentage,
        options.patch_size,
        options.z_crop,
        options.bright,
    )
    note = (
        f"mask, density {options.density_percentage:g} %, std {options.std_percentage:g} %, patch {options.patch_size}, "
        f"z crop {options.z_crop:g}"
    )
    write_volume(target, (as_stored(mask) if rotated else mask).astype(np.float32), tomogram, size, note)
    return float(mask.mean())
