"""cryovae mask."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cryovae.cli.geometry import Unrotated
from cryovae.cli.options import Overwrite, VoxelSize
from cryovae.errors import InputError


def mask(
    tomogram: Annotated[Path, typer.Argument(help="A tomogram, MRC or OME-Zarr.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The mask; NAME_mask.mrc here without it.")] = None,
    density_percentage: Annotated[
        float, typer.Option(help="Voxels that pass by how dense it is around them, in percent.")
    ] = 50.0,
    std_percentage: Annotated[float, typer.Option(help="Voxels that pass by how much it varies around them, in percent.")] = 50.0,
    patch_size: Annotated[int, typer.Option(help="Half the window that is looked at, in pairs of voxels.")] = 4,
    z_crop: Annotated[float, typer.Option(help="Share of the depth left out, half of it at the top, half at the bottom.")] = 0.0,
    bright: Annotated[bool, typer.Option("--bright", help="Protein is brighter than ice.")] = False,
    unrotated: Unrotated = None,
    voxel_size: VoxelSize = None,
    overwrite: Overwrite = False,
) -> None:
    """Find the prepared: 1 near dense voxels where the density varies, 0 elsewhere. Give it to train and restore as --mask.

    The percentages are those of IsoNet; 100 leaves a criterion out.
    """
    import numpy as np

    from cryovae.data.masking import specimen_mask
    from cryovae.io.files import read_volume, write_volume
    from cryovae.io.names import stem
    from cryovae.io.orientation import as_stored, upright
    from cryovae.io.volume import voxel_size_of
    from cryovae.workflows.orientation import is_unrotated

    target = output or Path(f"{stem(tomogram)}_mask.mrc")
    if target.exists() and not overwrite:
        raise InputError(f"{target} is there already: pass --overwrite, or another name with -o")
    volume = read_volume(tomogram)
    size = voxel_size_of(volume, voxel_size)
    density = np.asarray(volume.density)
    if not np.isfinite(density).all():
        raise InputError(f"{tomogram} has voxels that are NaN or infinite: reconstruct it again, or mend them first")
    rotated = is_unrotated(tomogram, unrotated)
    density = upright(density) if rotated else density
    found = specimen_mask(density, density_percentage, std_percentage, patch_size, z_crop, bright)
    stored = (as_stored(found) if rotated else found).astype(np.float32)
    note = f"mask, density {density_percentage:g} %, std {std_percentage:g} %, patch {patch_size}, z crop {z_crop:g}"
    write_volume(target, stored, tomogram, size, note)
    print(f"mask: {target}, {100 * found.mean():.0f} % of the voxels")
