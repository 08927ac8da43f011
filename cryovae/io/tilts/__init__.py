"""Reads tilt series. The format is recognised by the suffix of the file, or else by its content.

.tlt .rawtlt   one angle per line                            .xml    Warp's tilt series
.mdoc          SerialEM                                       .star   RELION 5 tilt series, projection matrices of RELION 4 and
.aln           AreTomo                                                Warp, Gctf (with a .tlt), STOPGAP wedge lists
.xf            IMOD's transforms (with a .tlt)
"""

from __future__ import annotations

from pathlib import Path

from cryovae.errors import InputError
from cryovae.io.tilts.angles import angles_in, text_of, transforms_in
from cryovae.io.tilts.aretomo import alignments_in
from cryovae.io.tilts.serialem import sections_in
from cryovae.io.tilts.series import TiltSeries
from cryovae.io.tilts.tables import star_tilts_in
from cryovae.io.tilts.warp import tilt_series_in
from cryovae.tomogram import TiltGeometry

__all__ = ["TiltSeries", "read_tilt_series", "read_tilts"]

READERS = {".aln": alignments_in, ".mdoc": sections_in, ".xf": transforms_in, ".xml": tilt_series_in}


def read_tilts(path: Path | str) -> TiltGeometry:
    """Read the tilt geometry from a file, without excluded tilts. InputError if the file has none."""
    path = Path(path)
    series = read_tilt_series(path)
    try:
        return series.geometry()
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def read_tilt_series(path: Path | str) -> TiltSeries:
    """Read the tilt series from a file. InputError if the file is missing, of another kind, or without tilts."""
    path = Path(path)
    text = text_of(path)
    kind = path.suffix.lower() if path.suffix.lower() in (*READERS, ".star", ".tlt", ".rawtlt") else _kind_of(text)
    if kind == ".star":
        return star_tilts_in(path)
    return READERS.get(kind, angles_in)(path, text)


def _kind_of(text: str) -> str:
    """Suffix of the format of a file, from its content."""
    head = text[:4096].lstrip()
    if head.startswith("<"):
        return ".xml"
    if head.startswith("# AreTomo"):
        return ".aln"
    if "[ZValue" in head:
        return ".mdoc"
    return ".star" if any(line.startswith("data_") for line in head.splitlines()) else ".tlt"
