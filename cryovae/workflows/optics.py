"""The contrast transfer of tomograms, which is divided out only when an option names it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from cryovae.errors import InputError
from cryovae.tomogram import Optics
from cryovae.units import defocus_option
from cryovae.workflows.geometry import one_each
from cryovae.workflows.options import INPUT, option

MICROSCOPE = ("voltage", "spherical_aberration", "amplitude_contrast", "phase_shift", "b_factor", "flipped")


@dataclass(frozen=True)
class OpticsOptions:
    """Defocus and microscope; fields of ``Optics`` that are set replace what the files say."""

    panel: ClassVar[str] = INPUT
    ctf: list[Path] | None = option(
        "Divide out the contrast transfer: a file with the defocus of each tilt (RELION or Gctf .star, Warp .xml), one for "
        "each tomogram; for a table of tomograms, the table."
    )
    defocus: float | None = option("Divide out the contrast transfer: defocus of all tilts in micrometres, underfocus positive.")
    voltage: float | None = option("Acceleration voltage in kV, with --ctf or --defocus; 300 if no file has it.")
    spherical_aberration: float | None = option("Spherical aberration in mm; 2.7 if no file has it.", "--cs")
    amplitude_contrast: float | None = option("Fraction of amplitude contrast; 0.1 if no file has it.")
    phase_shift: float | None = option("Phase shift of a phase plate in degrees.")
    b_factor: float | None = option("B factor of the envelope exp(-B k^2 / 4) in square angstrom.")
    flipped: bool | None = option("The phases of the tomogram have been flipped already.", "--phase-flipped")

    def for_files(self, count: int) -> list[Optics | None]:
        """The optics of each of ``count`` tomograms, or None for each without a file and a defocus.

        Raises:
            InputError: the microscope is given alone, or a file has no defocus.
        """
        microscope: dict[str, Any] = {name: getattr(self, name) for name in MICROSCOPE if getattr(self, name) is not None}
        if self.ctf and self.defocus is not None:
            raise InputError("--ctf and --defocus were both given, expected one of them")
        if self.defocus is not None:
            return [Optics((defocus_option(self.defocus),), **microscope)] * count
        if self.ctf:
            return [_read_optics(path, microscope) for path in one_each(self.ctf, count, "--ctf")]
        if microscope:
            raise InputError("settings of the microscope found without a defocus, expected --ctf FILE or --defocus 2.5 with them")
        return [None] * count

    def for_table(self, table: Path) -> bool:
        """Whether to divide out the contrast transfer that a table has. InputError for options that do not fit a table."""
        if self.defocus is not None:
            raise InputError("--defocus found with a table, expected it in the column rlnDefocus, and the table as --ctf")
        if not self.ctf:
            return False
        if [p.resolve() for p in self.ctf] != [table.resolve()]:
            raise InputError(f"--ctf {self.ctf[0]} found with the table {table}, expected the table itself: --ctf {table}")
        return True


def _read_optics(path: Path, microscope: dict[str, Any]) -> Optics:
    from cryovae.io.tilts import read_tilt_series

    series = read_tilt_series(path)
    try:
        optics = series.optics(**microscope)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if optics is None:
        raise InputError(f"{path} has no defocus: give a file that has one, or --defocus in micrometres")
    return optics
