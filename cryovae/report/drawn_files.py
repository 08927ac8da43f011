"""The files of drawn patches: an MRC volume for each, and a sheet of their slices."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from cryovae.errors import InputError
from cryovae.io.atomic import check_finite
from cryovae.io.mrc.writing import write_mrc
from cryovae.io.orientation import as_stored
from cryovae.io.outputs import check_folder
from cryovae.io.volume import Provenance
from cryovae.report.pictures import contact_sheet


@dataclass(frozen=True)
class DrawnFiles:
    """Where drawn patches go, and how their files are written.

    Attributes:
        folder: of all files.
        name: the beginning of their names.
        voxel_size: in angstrom.
        unrotated: whether files have the beam along their middle axis, as those of the tomogram that patches are of.
        origin: of a patch along x, y, z in angstrom.
    """

    folder: Path
    name: str
    voxel_size: float
    unrotated: bool = False
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def sheet(self) -> Path:
        """The path of the sheet."""
        return self.folder / f"{self.name}.png"

    def volume(self, kind: str | int) -> Path:
        """The path of a volume, by its kind or its number."""
        return self.folder / f"{self.name}_{kind}.mrc"

    def check_free(self, kinds: Iterable[str | int], overwrite: bool) -> None:
        """InputError, before any work is done, if there is a result already, or none can be written."""
        check_folder(self.folder)
        there = [path for path in (self.sheet, *map(self.volume, kinds)) if path.exists()]
        if there and not overwrite:
            raise InputError(f"{there[0]} is there already: pass --overwrite, or another folder with -o")

    def check_finite(self, densities: Tensor) -> None:
        """BrokenResult, before anything is written, if a voxel of some densities is NaN or infinite."""
        check_finite(self.sheet, float(densities.double().sum()))

    def write_volume(self, kind: str | int, density: Tensor, note: str) -> None:
        """Write the MRC file of a density (z, y, x), with the note in its header."""
        values = density.numpy()
        stored = np.ascontiguousarray(as_stored(values) if self.unrotated else values)
        write_mrc(self.volume(kind), stored, Provenance(origin=self.origin), self.voxel_size, note)

    def write_patches(self, densities: Tensor, note: str, unit: str, title: str | None = None) -> None:
        """Write one MRC file for each density (n, z, y, x), and a sheet of their slices; its title is the note by default."""
        self.check_finite(densities)
        for number, density in enumerate(densities):
            self.write_volume(number, density, note)
        contact_sheet(self.sheet, densities.numpy(), self.voxel_size, f"{self.name}: {title or note}", unit)
