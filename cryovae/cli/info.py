"""cryovae info."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cryovae.workflows.geometry import GeometryOptions
from cryovae.workflows.options import without


def info(
    tomogram: Annotated[Path, typer.Argument(help="A tomogram, MRC or OME-Zarr.")],
    *,
    geometry: Annotated[GeometryOptions, without("mask")],
) -> None:
    """Show header, statistics, the wedge in the power spectrum beside the one given, and what to do with the tomogram.

    The advice covers voxel size, halves, a mask and gold beads, and says what a restoration would take on this machine.
    """
    from cryovae.workflows.info import print_information

    print_information(tomogram, geometry.geometry(), geometry.voxel_size, geometry.unrotated)
