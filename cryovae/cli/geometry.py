"""The options that say how a tomogram was tilted and how it lies in its file, shared by all commands that read tomograms."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cryovae.errors import InputError
from cryovae.tomogram import TiltGeometry

if TYPE_CHECKING:
    from cryovae.io.star.tomograms import TomogramTable

Tilts2 = Annotated[
    list[Path] | None,
    typer.Option(
        help="Tilts of the second axis of a dual-axis reconstruction, at right angles to the first; one for each tomogram."
    ),
]
AxisAngle = Annotated[
    float | None, typer.Option(help="Degrees by which the tilt axis is turned in plane, from +y towards +x of the tomogram.")
]
Pretilt = Annotated[float | None, typer.Option(help="Degrees added to every tilt: how the specimen lay in the holder.")]
XTilt = Annotated[float | None, typer.Option(help="Degrees about x, by which the tilt axis is lifted from +y towards +z.")]
Thickness = Annotated[float | None, typer.Option(help="Of the specimen in voxels: tilts then measure slabs at low frequency.")]
Cone = Annotated[bool, typer.Option("--cone", help="The axis went all round the beam, so that a cone is missing and no wedge.")]
Handedness = Annotated[int, typer.Option(help="-1 turns the sign of every tilt; cryovae info says when.")]
Mask = Annotated[
    list[Path] | None,
    typer.Option(help="Where the specimen is, 1 in a volume of 0 and 1; one for each tomogram; see cryovae mask."),
]
Unrotated = Annotated[
    bool | None,
    typer.Option("--unrotated/--upright", help="The beam is along the middle axis, as in IMOD's .rec; found out without this."),
]


@dataclass(frozen=True)
class Adjusted:
    """What options change in a tilt geometry that was read: t' = handedness (t + pretilt), and what else is given."""

    axis_angle: float | None = None
    pretilt: float | None = None
    x_tilt: float | None = None
    thickness: float | None = None
    handedness: int = 1
    cone: bool = False

    def __post_init__(self) -> None:
        if self.handedness not in (1, -1):
            raise InputError(f"--handedness {self.handedness} found, expected 1 or -1")

    def __call__(self, tilts: TiltGeometry) -> TiltGeometry:
        """The geometry with these changes, of both axes where there are two."""
        given = {name: getattr(self, name) for name in ("axis_angle", "x_tilt", "thickness") if getattr(self, name) is not None}
        if self.pretilt:
            given["angles"] = tuple(a + self.pretilt for a in tilts.angles)
        found = replace(tilts, **given, conical=tilts.conical or self.cone)
        return found.mirrored() if self.handedness < 0 else found

    def with_second(self, tilts: TiltGeometry, second: TiltGeometry) -> TiltGeometry:
        """Both axes of a series, the second at right angles to the first."""
        first = self(tilts)
        across = replace(self, axis_angle=None, pretilt=None, x_tilt=None)(second)
        return replace(first, second=replace(across, axis_angle=first.axis_angle + 90.0))


def with_second_axes(geometries: list[TiltGeometry], tilts2: list[Path] | None, adjusted: Adjusted) -> list[TiltGeometry]:
    """Geometries as options change them, with the tilts of a second axis where there are such: one file for each, or for all."""
    if not tilts2:
        return [adjusted(tilts) for tilts in geometries]
    from cryovae.io.tilts import read_tilts

    if len(tilts2) not in (1, len(geometries)):
        raise InputError(
            f"{len(tilts2)} --tilts2 files found for {len(geometries)} tomograms, expected one for each, or one for all"
        )
    seconds = [read_tilts(path) for path in tilts2] * (len(geometries) if len(tilts2) == 1 else 1)
    return [adjusted.with_second(tilts, second) for tilts, second in zip(geometries, seconds, strict=True)]


def adjusted_table(
    table: TomogramTable, adjusted: Adjusted, tilts2: list[Path] | None, mask: list[Path] | None, unrotated: bool | None
) -> TomogramTable:
    """A table whose rows' tilts are changed as options say. InputError for options that a table has columns for."""
    if tilts2:
        raise InputError("--tilts2 found with a table, expected tomograms by name: restore dual-axis tomograms one by one")
    if mask:
        raise InputError("--mask found with a table, expected the masks in its column rlnMaskName")
    from cryovae.workflows.orientation import is_unrotated

    entries = tuple(
        replace(e, tilts=None if e.tilts is None else adjusted(e.tilts), unrotated=is_unrotated(e.files[0], unrotated))
        for e in table.entries
    )
    return replace(table, entries=entries)


def masks_given(mask: list[Path] | None, count: int) -> list[Path | None]:
    """The mask of each of ``count`` tomograms."""
    if not mask:
        return [None] * count
    if len(mask) not in (1, count):
        raise InputError(f"{len(mask)} --mask files found for {count} tomograms, expected one for each, or one for all")
    return list(mask if len(mask) == count else mask * count)
