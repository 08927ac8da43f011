"""cryovae mask."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cryovae.io.names import checked_name, stem
from cryovae.workflows.geometry import GeometryOptions
from cryovae.workflows.mask import MaskOptions, in_words, write_mask
from cryovae.workflows.options import only
from cryovae.workflows.requests import OutputOptions


def mask(
    tomogram: Annotated[Path, typer.Argument(help="A tomogram, MRC or OME-Zarr.")],
    *,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The mask; NAME_mask.mrc here without it.")] = None,
    options: MaskOptions,
    geometry: Annotated[GeometryOptions, only("unrotated", "voxel_size")],
    results: Annotated[OutputOptions, only("overwrite")],
) -> None:
    """Make a mask of the specimen: 1 near dense voxels where the density varies, 0 elsewhere. Pass it to restore as --mask.

    The percentages are those of IsoNet; 100 switches a criterion off. Gold beads are -1 with --exclude-beads.
    """
    target = output or Path(f"{checked_name(stem(tomogram), str(tomogram))}_mask.mrc")
    share, beads = write_mask(tomogram, target, options, geometry.unrotated, geometry.voxel_size, results.overwrite)
    print(f"mask: {target}, {100 * share:.0f} % of the voxels")
    if options.exclude_beads:
        print(in_words(beads))
