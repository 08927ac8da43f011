"""The options that name a contrast transfer, which is divided out only when one of them is given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from cryovae.errors import InputError
from cryovae.tomogram import Optics

Ctf = Annotated[
    list[Path] | None,
    typer.Option(
        help="Divide the contrast transfer out: a file with the defocus of each tilt (RELION or Gctf .star, Warp .xml), one for "
        "each tomogram; for a table of tomograms, the table."
    ),
]
Defocus = Annotated[
    float | None, typer.Option(help="Divide the contrast transfer out: defocus of all tilts in micrometres, underfocus positive.")
]
Voltage = Annotated[
    float | None, typer.Option(help="Acceleration voltage in kV, for --ctf or --defocus; 300 if nothing says so.")
]
Aberration = Annotated[float | None, typer.Option("--cs", help="Spherical aberration in mm; 2.7 if nothing says so.")]
AmplitudeContrast = Annotated[float | None, typer.Option(help="Fraction of amplitude contrast; 0.1 if nothing says so.")]
PhaseShift = Annotated[float | None, typer.Option(help="Of a phase plate, in degrees.")]
BFactor = Annotated[float | None, typer.Option(help="Envelope exp(-B k^2 / 4) in square angstrom.")]
Flipped = Annotated[bool | None, typer.Option("--phase-flipped", help="The phases of the tomogram have been flipped already.")]


def optics_given(
    ctf: list[Path] | None, defocus: float | None, count: int, **microscope: float | bool | None
) -> list[Optics | None]:
    """The optics of each of ``count`` tomograms, or None for each where neither file nor defocus was given.

    microscope: fields of ``Optics``, over what the files say. InputError if they were given alone, or a file knows no defocus.
    """
    known: dict[str, Any] = {name: value for name, value in microscope.items() if value is not None}
    if ctf and defocus is not None:
        raise InputError("--ctf and --defocus were both given, expected one of them")
    if defocus is not None:
        if not 0 < abs(defocus) < 100:
            raise InputError(f"--defocus {defocus:g} found, expected micrometres, e.g. 2.5")
        return [Optics((1e4 * defocus,), **known)] * count
    if not ctf:
        if known:
            raise InputError("settings of the microscope found without a defocus, expected --ctf FILE or --defocus 2.5 with them")
        return [None] * count
    if len(ctf) not in (1, count):
        raise InputError(f"{len(ctf)} --ctf files found for {count} tomograms, expected one for each, or one for all")
    found = [_of_file(path, known) for path in ctf]
    return list(found if len(found) == count else found * count)


def _of_file(path: Path, known: dict[str, Any]) -> Optics:
    from cryovae.io.tilts import read_tilt_series

    optics = read_tilt_series(path).optics()
    if optics is None:
        raise InputError(f"{path} says nothing of the defocus: give a file that does, or --defocus in micrometres")
    return replace(optics, **known)


def table_has_optics(ctf: list[Path] | None, defocus: float | None, table: Path) -> bool:
    """Whether the contrast transfer that a table tells is to be divided out. InputError for what does not fit a table."""
    if defocus is not None:
        raise InputError("--defocus found with a table, expected it in the column rlnDefocus, and the table as --ctf")
    if not ctf:
        return False
    if [p.resolve() for p in ctf] != [table.resolve()]:
        raise InputError(f"--ctf {ctf[0]} found with the table {table}, expected the table itself: --ctf {table}")
    return True
