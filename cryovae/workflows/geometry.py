"""How tomograms were tilted and how they lie in their files: the options, and the tilt geometries that they give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

from cryovae.errors import InputError
from cryovae.tomogram import TiltGeometry
from cryovae.workflows.options import GEOMETRY, option

if TYPE_CHECKING:
    from cryovae.io.star.tomograms import TomogramTable

T = TypeVar("T")


@dataclass(frozen=True)
class TiltAdjustment:
    """Changes to a tilt geometry that was read: t' = handedness (t + pretilt), and the other fields where they are set.

    Attributes:
        axis_angle: in-plane angle of the tilt axis in degrees, from +y towards +x.
        pretilt: degrees added to every tilt.
        x_tilt: degrees about x.
        thickness: of the specimen in voxels.
        handedness: 1, or -1 to change the sign of every tilt.
        cone: whether the tilt axis went round the beam.
    """

    panel: ClassVar[str] = GEOMETRY
    axis_angle: float | None = option("In-plane angle of the tilt axis in degrees, from +y towards +x of the tomogram.")
    pretilt: float | None = option("Degrees added to every tilt: the angle of the specimen in its holder.")
    x_tilt: float | None = option("Rotation about x in degrees, which lifts the tilt axis from +y towards +z.")
    thickness: float | None = option("Thickness of the specimen in voxels: tilts then measure slabs at low frequency.")
    cone: bool = option("Conical tilting: the tilt axis went round the beam, so a cone is missing.", "--cone", default=False)
    handedness: int = option("-1 changes the sign of every tilt; cryovae info says when it is needed.", default=1)

    def __post_init__(self) -> None:
        if self.handedness not in (1, -1):
            raise InputError(f"--handedness {self.handedness} found, expected 1 or -1")

    def __call__(self, tilts: TiltGeometry) -> TiltGeometry:
        """The geometry with these changes, of both axes where there are two."""
        changes = {name: getattr(self, name) for name in ("axis_angle", "x_tilt", "thickness") if getattr(self, name) is not None}
        if self.pretilt:
            changes["angles"] = tuple(a + self.pretilt for a in tilts.angles)
        adjusted = replace(tilts, **changes, conical=tilts.conical or self.cone)
        return adjusted.mirrored() if self.handedness < 0 else adjusted

    def with_second(self, tilts: TiltGeometry, second: TiltGeometry) -> TiltGeometry:
        """Both axes of a series, the second at right angles to the first."""
        first = self(tilts)
        across = replace(self, axis_angle=None, pretilt=None, x_tilt=None)(second)
        return replace(first, second=replace(across, axis_angle=first.axis_angle + 90.0))


@dataclass(frozen=True)
class GeometryOptions:
    """Tilts, masks, orientation and voxel size of the tomograms that a command reads."""

    panel: ClassVar[str] = GEOMETRY
    tilts: list[Path] | None = option(
        "Tilts in degrees, a file for each tomogram. .tlt, .rawtlt, .mdoc, .aln, .xf, Warp .xml or RELION .star.",
        common=True,
    )
    tilt_range: tuple[float, float] | None = option(
        "Lowest and highest tilt in degrees instead.", metavar="LOW HIGH", common=True
    )
    tilts2: list[Path] | None = option(
        "Tilts of the second axis of a dual-axis reconstruction, at right angles to the first; one file for each tomogram."
    )
    adjustment: TiltAdjustment = field(default_factory=TiltAdjustment)
    mask: list[Path] | None = option(
        "Mask of the specimen: 1 specimen, 0 ice, -1 gold. One for each tomogram; cryovae mask makes one.",
        common=True,
    )
    unrotated: bool | None = option(
        "The beam is along the middle axis of the file, as in IMOD's .rec, or along the first; detected without this.",
        "--unrotated/--upright",
    )
    voxel_size: float | None = option("Voxel size in angstrom, over the header.", common=True)

    def geometries(self, count: int) -> list[TiltGeometry]:
        """The tilt geometry of each of ``count`` tomograms. InputError if there are no tilts, or not as many files."""
        from cryovae.io.tilts import read_tilts

        if self.tilts and self.tilt_range:
            raise InputError("--tilts and --tilt-range were both given, expected one of them")
        if not self.tilts and not self.tilt_range:
            raise InputError("no tilt angles given, the wedge follows from them: pass --tilts ts_01.tlt, or --tilt-range -60 60")
        if self.tilt_range:
            geometries = [TiltGeometry.from_range(*self.tilt_range)] * count
        else:
            geometries = [read_tilts(path) for path in one_each(self.tilts or [], count, "--tilts")]
        if not self.tilts2:
            return [self.adjustment(tilts) for tilts in geometries]
        seconds = [read_tilts(path) for path in one_each(self.tilts2, count, "--tilts2")]
        return [self.adjustment.with_second(tilts, second) for tilts, second in zip(geometries, seconds, strict=True)]

    def pixel_sizes(self, count: int) -> list[float | None]:
        """The pixel size in angstrom of the raw images of each of ``count`` tomograms, None where no file of tilts has it."""
        from cryovae.io.tilts import read_tilt_series

        return (
            [read_tilt_series(path).pixel_size for path in one_each(self.tilts, count, "--tilts")]
            if self.tilts
            else [None] * count
        )

    def geometry(self) -> TiltGeometry | None:
        """The tilt geometry of a single tomogram, or None without tilts."""
        return self.geometries(1)[0] if self.tilts or self.tilt_range else None

    def masks(self, count: int) -> list[Path | None]:
        """The mask of each of ``count`` tomograms."""
        return list(one_each(self.mask, count, "--mask")) if self.mask else [None] * count

    @property
    def default_tilts(self) -> TiltGeometry | None:
        """The tilts of those rows of a table that have none of their own. InputError for files of tilts."""
        if self.tilts:
            raise InputError("--tilts found with a table, expected them in its rows: add the column crvTilts, or --tilt-range")
        return TiltGeometry.from_range(*self.tilt_range) if self.tilt_range else None

    def adjust(self, table: TomogramTable) -> TomogramTable:
        """A table whose rows' tilts are changed as the options say. InputError for options that a table has columns for."""
        if self.tilts2:
            raise InputError("--tilts2 found with a table, expected tomograms by name: restore dual-axis tomograms one by one")
        if self.mask:
            raise InputError("--mask found with a table, expected the masks in its column rlnMaskName")
        return adjusted_table(table, self.adjustment, self.unrotated)


def adjusted_table(table: TomogramTable, adjustment: TiltAdjustment, unrotated: bool | None) -> TomogramTable:
    """A table whose rows' tilts are adjusted, and whose rows know whether their volumes are unrotated."""
    from cryovae.workflows.orientation import is_unrotated

    entries = tuple(
        replace(e, tilts=None if e.tilts is None else adjustment(e.tilts), unrotated=is_unrotated(e.files[0], unrotated))
        for e in table.entries
    )
    return replace(table, entries=entries)


def one_each(items: Sequence[T], count: int, name: str) -> list[T]:
    """One item for each of ``count`` tomograms, of as many items or of a single one. InputError, with the option's name."""
    if len(items) not in (1, count):
        raise InputError(f"{len(items)} {name} files found for {count} tomograms, expected one for each, or one for all")
    return list(items) * (count if len(items) == 1 else 1)
