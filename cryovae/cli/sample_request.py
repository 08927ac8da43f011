"""The request to draw patches: the options of ``cryovae sample``, and which of them go together. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Annotated

from cryovae.errors import InputError
from cryovae.io.names import is_volume
from cryovae.ranges import MAX_SEED
from cryovae.workflows.compute import ComputeOptions
from cryovae.workflows.geometry import GeometryOptions
from cryovae.workflows.optics import OpticsOptions
from cryovae.workflows.options import argument, only, option, without
from cryovae.workflows.requests import OutputOptions

BASE, PRIOR, PATCHES = "base", "prior", "patches"
SOURCES = (BASE, PRIOR, PATCHES)
MOST_SIDE = 256
Place = tuple[float, float, float]


@dataclass(frozen=True)
class SampleRequest:
    """Patches to draw, and where they go."""

    tomogram_or_run: Path | None = argument(
        "A tomogram, for --at or --between; or the folder of a run, for its own model or tomogram; none for draws of the base.",
        default=None,
    )
    half1: Path | None = option("First half tomogram, instead of a tomogram.")
    half2: Path | None = option("Second half tomogram.")
    output: Path | None = option("Folder for the patches; without it 'drawn', in the folder of a run.", "--output", "-o")
    source: str | None = option(
        "base: the generative model of clean patches. Of a run's own model: prior, or patches, the Gaussian of all latents of "
        "the tomogram's patches. Without it base, or prior for a run.",
        "--from",
    )
    model: Path | None = option("A generative model of cryovae pretrain, file or folder, instead of the package's base.")
    count: int = option("How many patches.", default=8)
    side: int | None = option("Side of the patches of the base in voxels, a multiple of 8; without it that of its training.")
    temperature: float = option("Standard deviation of the draws; 1 is the distribution itself.", default=1.0)
    seed: int = option("Random seed; the same gives the same patches.", default=0)
    at: str | None = option(
        "Draw from the posterior of the patch about this position of the tomogram, in voxels.", metavar="Z,Y,X"
    )
    between: tuple[str, str] | None = option(
        "Interpolate between the patches about two positions of the tomogram instead, in voxels.", metavar="Z,Y,X Z,Y,X"
    )
    walk: bool = option("Interpolate between two draws of the prior of the base instead.", "--walk", default=False)
    steps: int = option("Patches of the interpolation, both ends included.", default=8)
    geometry: GeometryOptions = field(default_factory=GeometryOptions)
    optics: OpticsOptions = field(default_factory=OpticsOptions)
    compute: Annotated[ComputeOptions, without("memory")] = field(default_factory=ComputeOptions)
    results: Annotated[OutputOptions, only("overwrite", "force")] = field(default_factory=OutputOptions)

    @property
    def run(self) -> Path | None:
        """The folder of a run, if one is named."""
        path = self.tomogram_or_run
        return path if path is not None and is_run(path) else None

    @property
    def has_tomogram(self) -> bool:
        """Whether files of a tomogram are named."""
        return self.half1 is not None or (self.tomogram_or_run is not None and self.run is None)

    @property
    def origin(self) -> str:
        """What is drawn from, one of ``SOURCES``."""
        if self.source is not None:
            return self.source
        is_of_base = self.at is not None or self.walk or self.model is not None or self.side is not None
        return BASE if self.run is None or is_of_base else PRIOR

    @property
    def places(self) -> tuple[Place, ...]:
        """The position of --at, or the two of --between. InputError if one is none."""
        if self.at is not None:
            return (place_of(self.at, "--at"),)
        return tuple(place_of(text, "--between") for text in self.between or ())

    @property
    def folder(self) -> Path:
        """Where the patches go."""
        return self.output or (Path("drawn") if self.run is None else self.run / "drawn")

    def check(self) -> None:
        """InputError if an option is impossible, or does not go with the others."""
        if self.origin not in SOURCES:
            raise InputError(f"--from {self.origin} found, expected base, prior or patches")
        if self.count < 1:
            raise InputError(f"--count {self.count} found, expected 1 or more")
        if not (isfinite(self.temperature) and self.temperature >= 0):
            raise InputError(f"--temperature {self.temperature:g} found, expected 0 or more; 1 is the distribution itself")
        if self.steps < 2:
            raise InputError(f"--steps {self.steps} found, expected 2 or more: both ends are among them")
        if abs(self.seed) > MAX_SEED:
            raise InputError(f"--seed {self.seed:.3g} found, expected at most {MAX_SEED}")
        if self.side is not None and not (self.side % 8 == 0 and 0 < self.side <= MOST_SIDE):
            raise InputError(f"--side {self.side} found, expected a multiple of 8 from 8 to {MOST_SIDE} voxels")
        if (self.half1 is None) != (self.half2 is None):
            raise InputError("one half found, expected both: pass --half1 and --half2, or one tomogram")
        if self.tomogram_or_run is not None and self.half1 is not None:
            raise InputError(f"{self.tomogram_or_run} and halves were given, expected one or the other")
        _alone({"--at": self.at, "--between": self.between, "--walk": self.walk or None})
        places = self.places
        if self.origin == BASE:
            self._check_base(places)
        else:
            self._check_ladder()

    def _check_base(self, places: Sequence[Place]) -> None:
        has_input = self.has_tomogram or self.run is not None
        if places and not has_input:
            raise InputError("a position found without a tomogram, expected one: name it, or its halves, or the folder of a run")
        if self.has_tomogram and not places:
            raise InputError(
                "a tomogram found without a position, expected one: pass --at Z,Y,X or --between, or no tomogram for the prior"
            )
        if places and self.temperature != 1:
            raise InputError(
                f"--temperature {self.temperature:g} found at a position, expected 1: the posterior is drawn from as it is"
            )
        if self.at is not None and self.count < 2:
            raise InputError(f"--count {self.count} found with --at, expected 2 or more: their standard deviation is written")
        if not self.has_tomogram:
            self._check_no_files("without a tomogram" if self.run is None else "with a run, which has its own")

    def _check_ladder(self) -> None:
        if self.run is None:
            raise InputError(f"--from {self.origin} found without a run, expected its folder: name it, or --from base")
        for name, value in (("--model", self.model), ("--side", self.side), ("--at", self.at), ("--walk", self.walk or None)):
            if value is not None:
                raise InputError(f"{name} found with --from {self.origin}, expected --from base with it")
        self._check_no_files("with a run, which has its own")

    def _check_no_files(self, where: str) -> None:
        """InputError for options that say how a file of a tomogram is read."""
        if replace(self.geometry, voxel_size=None) != GeometryOptions() or self.optics != OpticsOptions():
            raise InputError(f"options of tilts, mask, orientation or contrast transfer found {where}: leave them out")


def is_run(path: Path) -> bool:
    """Whether a path is the folder of a run rather than a tomogram, by its name if nothing is there."""
    from cryovae.io.ome_zarr.reading import is_zarr

    return not is_zarr(path) if path.is_dir() else not (path.is_file() or is_volume(path.name))


def place_of(text: str, name: str) -> Place:
    """A position (z, y, x) in voxels. InputError, with the name of the option, if a text is none."""
    try:
        z, y, x = (float(word) for word in text.split(","))
    except ValueError:
        raise InputError(f"{name} {text} found, expected z,y,x in voxels, e.g. 30,40,50") from None
    return z, y, x


def _alone(options: dict[str, object]) -> None:
    named = [name for name, value in options.items() if value is not None]
    if len(named) > 1:
        raise InputError(f"{' and '.join(named)} found, expected one of them")
