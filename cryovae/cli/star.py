"""cryovae star: tables of tomograms."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from cryovae.errors import InputError
from cryovae.tomogram import TiltGeometry
from cryovae.workflows.geometry import GeometryOptions
from cryovae.workflows.options import only
from cryovae.workflows.requests import OutputOptions


def import_table(
    folder: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of AreTomo3 or Warp, or one with folders even and odd, or with halves that their names mark."
        ),
    ] = None,
    *,
    even: Annotated[Path | None, typer.Option(help="Folder of the even, or first, halves, if no folder says it.")] = None,
    odd: Annotated[Path | None, typer.Option(help="Folder of the odd, or second, halves.")] = None,
    tilts: Annotated[
        Path | None, typer.Option(help="Folder of the tilt files, in any format that is read. Without it: beside the tomograms.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The table.")] = Path("tomograms.star"),
    geometry: Annotated[GeometryOptions, only("tilt_range", "voxel_size")],
    results: Annotated[OutputOptions, only("overwrite")],
) -> None:
    """Make a table of tomograms from a folder. Halves are paired by name; one without a partner is an error."""
    from cryovae.io.outputs import check_file
    from cryovae.io.star.layouts import complete, layout_of
    from cryovae.io.star.pairing import checked_volumes, paired_halves, tilts_beside, tomogram_rows
    from cryovae.io.star.table import write_blocks
    from cryovae.io.star.tilt_files import tilts_of

    tilt_range = geometry.tilt_range
    if (even is None) != (odd is None) or (folder is None) == (even is None):
        raise InputError("expected a folder of tomograms, or --even and --odd, the folders of the halves: pass one or the other")
    if tilts is not None and tilt_range is not None:
        raise InputError("--tilts and --tilt-range found, expected one of them: leave one out")
    if folder is None and tilts is None and tilt_range is None:
        raise InputError("expected one of --tilts, a folder of files of tilts, and --tilt-range, e.g. -60 60: pass one")
    check_file(output)
    if output.exists() and not results.overwrite:
        raise InputError(f"{output} is there already: pass --overwrite, or another name with -o")
    if folder is not None:
        layout = layout_of(folder)
        files = complete(layout)
    else:
        layout, files = None, dict[str, tuple[Path, ...]](paired_halves(even, odd))  # type: ignore[arg-type]
    geometries: Mapping[str, Path] | TiltGeometry
    if tilt_range is not None:
        geometries = TiltGeometry.from_range(*tilt_range)
    else:
        names = list(files)
        geometries = tilts_of(names, tilts) if tilts is not None or layout is None else tilts_beside(layout, names)  # type: ignore[arg-type]
    sizes = checked_volumes(files, geometry.voxel_size)
    write_blocks(output, {"": tomogram_rows(files, geometries, sizes, output)})
    what = (
        "" if layout is None else f", {'halves' if len(next(iter(files.values()))) > 1 else 'single volumes'} of {layout.program}"
    )
    print(f"{len(files)} tomograms{what}: {output}")
