"""cryovae star: tables of tomograms."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cryovae.errors import InputError
from cryovae.tomogram import TiltGeometry
from cryovae.workflows.geometry import GeometryOptions
from cryovae.workflows.options import only
from cryovae.workflows.requests import OutputOptions


def import_table(
    *,
    even: Annotated[Path, typer.Option(help="Folder of the even, or first, halves.")],
    odd: Annotated[Path, typer.Option(help="Folder of the odd, or second, halves.")],
    tilts: Annotated[Path | None, typer.Option(help="Folder of the tilt files, in any format that is read.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The table.")] = Path("tomograms.star"),
    geometry: Annotated[GeometryOptions, only("tilt_range", "voxel_size")],
    results: Annotated[OutputOptions, only("overwrite")],
) -> None:
    """Make a table of tomograms from folders. Files are paired by name; a file without a partner is an error."""
    from cryovae.io.files import read_volume
    from cryovae.io.names import checked_name
    from cryovae.io.outputs import check_file
    from cryovae.io.star.pairing import paired_halves, tomogram_rows
    from cryovae.io.star.table import write_blocks
    from cryovae.io.star.tilt_files import tilts_of
    from cryovae.io.volume import voxel_size_of

    tilt_range = geometry.tilt_range
    if (tilts is None) == (tilt_range is None):
        raise InputError("expected one of --tilts, a folder of files of tilts, and --tilt-range, e.g. -60 60: pass one")
    check_file(output)
    if output.exists() and not results.overwrite:
        raise InputError(f"{output} is there already: pass --overwrite, or another name with -o")
    halves = paired_halves(even, odd)
    geometries = tilts_of(list(halves), tilts) if tilts is not None else TiltGeometry.from_range(*tilt_range)  # type: ignore[misc]
    sizes = {}
    for name, pair in halves.items():
        checked_name(name, str(pair[0]))
        first, second = read_volume(pair[0]), read_volume(pair[1])
        if first.density.shape != second.density.shape:
            raise InputError(
                f"{pair[0]} has shape {first.density.shape} and {pair[1]} {second.density.shape}, expected halves of one shape"
            )
        sizes[name] = voxel_size_of(first, geometry.voxel_size)
    write_blocks(output, {"": tomogram_rows(halves, geometries, sizes, output)})
    print(f"{len(halves)} tomograms: {output}")
