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
    """Show header, statistics, and the wedge in the power spectrum beside the one given: axis, range, and sign."""
    from cryovae.workflows.info import print_information

    print_information(tomogram, geometry.geometry(), geometry.voxel_size, geometry.unrotated)
