"""The request to simulate: the options of ``cryovae simulate``, named like the settings of the simulation."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

from cryovae.workflows.compute import ComputeOptions
from cryovae.workflows.options import only, option, output_option
from cryovae.workflows.requests import OutputOptions


@dataclass(frozen=True)
class SceneOptions:
    """The specimen: fields of ``simulation.scene.SceneConfig``, and files of molecules."""

    panel: ClassVar[str] = "Specimen"
    shape: tuple[int, int, int] = option("Voxels along z, y, x.", metavar="Z Y X", default=(96, 128, 112))
    voxel_size: float = option("Voxel size in angstrom.", default=10.0)
    molecule: list[Path] | None = option(
        "An MRC map, PDB or mmCIF file, may be .gz; may be repeated. Made-up molecules without it."
    )
    species: int = option("Number of made-up molecules, without --molecule.", default=5)
    crowding: float = option("Fraction of the volume that molecules take, at most.", default=0.3)
    sheets: int = option("Number of membranes through the volume.", default=1)
    vesicles: int = option("Number of closed vesicles.", default=2)
    filaments: int = option("Number of microtubules and actin filaments, alternating.", default=2)
    beads: int = option("Number of gold beads of 5 to 10 nm.", default=3)
    lamella: float | None = option("Thickness in angstrom of a slab along z that holds all matter.")


@dataclass(frozen=True)
class AcquisitionOptions:
    """The tilt series: fields of ``simulation.tilt_series.AcquisitionConfig``, and tilts."""

    panel: ClassVar[str] = "Acquisition"
    tilts: Path | None = option("Tilt angles, a .tlt or .rawtlt file.")
    tilt_range: tuple[float, float] = option("Lowest and highest tilt in degrees.", metavar="LOW HIGH", default=(-60.0, 60.0))
    tilt_step: float = option("Degrees between tilts.", default=3.0)
    dose: float = option("Electrons per square angstrom over all tilts: noise and damage.", default=120.0)
    snr: float | None = option("Signal over noise variance of the full tomogram, instead of that of the dose.")
    noise: str = option("gaussian or poisson.", default="gaussian")
    halves: str = option("frames: the dose of each tilt in two; tilts: even and odd tilts.", default="frames")
    misalign: tuple[float, float] = option(
        "Standard deviations of shifts and tilts.", metavar="VOXELS DEGREES", default=(0.0, 0.0)
    )
    defocus: float = option("Defocus in micrometres; 0 for no CTF.", default=2.5)
    defocus_spread: float = option("Standard deviation of the defocus between tilts, in micrometres.", default=0.1)
    cutoff: float = option("Highest frequency of the back-projection, in cycles per voxel.", default=0.5)


@dataclass(frozen=True)
class SimulateRequest:
    """A tomogram to simulate, and where it goes."""

    output: Path = output_option("simulated")
    name: str = option("Beginning of the file names.", default="simulated")
    acquisition: str = option(
        "tilt-series: project, count, reconstruct; ideal: an exact wedge and coloured noise.", default="tilt-series"
    )
    scene: SceneOptions = field(default_factory=SceneOptions)
    series: AcquisitionOptions = field(default_factory=AcquisitionOptions)
    seed: int = option("Random seed.", default=0)
    compute: Annotated[ComputeOptions, only("threads")] = field(default_factory=ComputeOptions)
    results: Annotated[OutputOptions, only("overwrite")] = field(default_factory=OutputOptions)
