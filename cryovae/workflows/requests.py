"""Requests to train or restore: files, settings and output folder; the options of ``cryovae train`` and ``restore``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

from cryovae.workflows.compute import ComputeOptions
from cryovae.workflows.geometry import GeometryOptions
from cryovae.workflows.optics import OpticsOptions
from cryovae.workflows.options import INPUT, OUTPUT, TRAINING, argument, only, option, output_option
from cryovae.workflows.settings import RestorationSettings, TrainingSettings


@dataclass(frozen=True)
class OutputOptions:
    """Whether existing results are replaced, and how new ones are written."""

    panel: ClassVar[str] = OUTPUT
    output_format: str = option(
        "Format of the volumes that are written: mrc, zarr for OME-Zarr, or copick for OME-Zarr and a copick tree of it in the "
        "folder for the results, with a copick.json that opens it.",
        "--format",
        default="mrc",
    )
    live: bool = option("During training, write the restored middle of the tomogram to live.mrc.", "--live", default=False)
    resume: bool = option(
        "Go on with a run that was stopped. With more --steps, a finished one too.", "--resume", default=False, common=True
    )
    overwrite: bool = option("Replace results that are there already.", "--overwrite", default=False, common=True)
    dry_run: bool = option("Say what would be done, and write nothing.", "--dry-run", default=False, common=True)
    force: bool = option("Go on although a check of the input refuses it; the record says so.", "--force", default=False)


@dataclass(frozen=True)
class TrainRequest:
    """One model to train on several tomograms."""

    tomograms: list[Path] = argument("Tomograms; for halves, their first halves; or one .star table.")
    half2: list[Path] | None = option("Second half of each tomogram, in the same order.", panel=INPUT, common=True)
    output: Path = output_option("runs/cryovae")
    start: str | None = option(
        "What to begin with: base, a MODEL, or none. base is the network of the package, trained on simulated scenes, MODEL a "
        "file or a run folder. Without it: base, if the sizes are those of base, as in quick.",
        "--from",
        metavar="MODEL",
        panel=TRAINING,
        common=True,
    )
    geometry: GeometryOptions = field(default_factory=GeometryOptions)
    optics: OpticsOptions = field(default_factory=OpticsOptions)
    settings: TrainingSettings = field(default_factory=TrainingSettings)
    compute: ComputeOptions = field(default_factory=ComputeOptions)
    results: Annotated[OutputOptions, only("resume", "overwrite", "dry_run", "force")] = field(default_factory=OutputOptions)


@dataclass(frozen=True)
class RestoreRequest:
    """One tomogram, or a table of them, to restore."""

    tomogram: Path | None = argument("One tomogram, or a .star table of many. MRC or OME-Zarr.", default=None)
    half1: Path | None = option("First half tomogram, instead of one tomogram.", panel=INPUT, common=True)
    half2: Path | None = option("Second half tomogram.", panel=INPUT, common=True)
    output: Path = output_option("restored")
    model: Path | None = option(
        "Restore by a trained model. Its file, or the folder of its run; without it, one is trained first.",
        metavar="MODEL",
        panel=INPUT,
        common=True,
    )
    start: str | None = option(
        "What to begin with: base, a MODEL, or none. base is the network of the package, MODEL a file or a run folder. Without "
        "--steps it restores at once, unless it predicts hidden data worse than clipping does; then, and with --steps, it is "
        "trained further. In a table the first row decides. Without --from: base, trained further, if the sizes are those of "
        "base, as in quick.",
        "--from",
        metavar="MODEL",
        panel=TRAINING,
        common=True,
    )
    geometry: GeometryOptions = field(default_factory=GeometryOptions)
    optics: OpticsOptions = field(default_factory=OpticsOptions)
    settings: RestorationSettings = field(default_factory=RestorationSettings)
    compute: ComputeOptions = field(default_factory=ComputeOptions)
    results: OutputOptions = field(default_factory=OutputOptions)
