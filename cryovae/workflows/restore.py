"""Restoring into a folder: train if there is no model, restore, write volumes, pictures and the record."""

from __future__ import annotations

import errno
import shutil
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from cryovae import distributed
from cryovae.checkpoint import Checkpoint
from cryovae.config import RunConfig
from cryovae.errors import InputError
from cryovae.evaluate.assessment import as_tensor, assess
from cryovae.io.files import write_volume
from cryovae.io.orientation import as_stored
from cryovae.report.contents import Contents
from cryovae.report.page import write_report
from cryovae.report.pictures import preview
from cryovae.report.sampler_sentences import posterior_name, sampler_sentences
from cryovae.restoration.restorer import Restoration, Restorer
from cryovae.tomogram import Tomogram
from cryovae.workflows.progress import Watch
from cryovae.workflows.run_folder import RunFolder, log, metrics_of

RESERVE = 1.05


def results_of(has_halves: bool, config: RunConfig) -> list[str]:
    """The kinds of volumes that a restoration will write."""
    halves = ["mean_half1", "mean_half2"] if has_halves and config.restoration.halves else []
    if not config.objective.variational:
        return ["mean", *halves]
    return ["mean", "std", *halves, *(f"sample_{i}" for i in range(config.restoration.samples_out))]


def check_room(folder: RunFolder, tomogram: Tomogram, config: RunConfig, overwrite: bool) -> None:
    """InputError if results are there already; OSError if the disk has no room for new ones. Before any work is done.

    Of several ranks the first alone writes any.
    """
    if distributed.rank():
        return
    kinds = results_of(tomogram.halves is not None, config)
    there = [folder.result(kind) for kind in kinds if folder.result(kind).exists()]
    if there and not overwrite:
        raise InputError(f"{there[0]} is there already: pass --overwrite, or another folder with -o")
    needed = int(RESERVE * 4 * tomogram.density.size * len(kinds))
    free = shutil.disk_usage(folder.folder).free
    if free < needed:
        raise OSError(errno.ENOSPC, f"{free / 1e9:.2f} GB free, {needed / 1e9:.2f} GB needed", str(folder.folder))


def restore_in(
    folder: RunFolder, tomogram: Tomogram, checkpoint: Checkpoint, config: RunConfig, device: torch.device
) -> Restoration:
    """Restore with a trained model, and write all that belongs to it: of several ranks, the first does."""
    began = time.monotonic()
    with Watch("restoring, tiles", 1) as progress:
        restorer = Restorer(
            checkpoint.ladder,
            checkpoint.patch,
            config.restoration,
            device,
            lambda done, total: progress.update(done, total=total),
        )
        restoration = restorer(tomogram)
    if distributed.rank():
        return restoration
    seconds = time.monotonic() - began
    write_results(folder, tomogram, restoration, config)
    rate = tomogram.density.size * config.restoration.samples / max(seconds, 1e-9)
    log.info("restored in %.0f s, %.3g voxels of samples a second", seconds, rate)
    for said in sampler_sentences(restoration.search):
        log.info("%s", said)
    folder.save(
        restoration={
            "seconds": round(seconds, 1),
            "figures": restoration.figures,
            "held_out": restoration.held_out,
            **({} if restoration.search is None else {"search": restoration.search}),
            "steps_of_model": checkpoint.step,
        }
    )
    report_on(folder, tomogram, restoration)
    return restoration


def report_on(folder: RunFolder, tomogram: Tomogram, restoration: Restoration) -> None:
    """Write report.html, with all that is known without a truth."""
    before = as_tensor(tomogram.density)
    given = None if tomogram.halves is None else (torch.from_numpy(tomogram.halves[0]), torch.from_numpy(tomogram.halves[1]))
    found = assess(restoration.mean, tomogram.tilts, input_density=before, halves=restoration.halves, input_halves=given)
    contents = Contents(
        name=tomogram.name,
        before=before.numpy(),
        after=restoration.mean.numpy(),
        std=restoration.std.numpy(),
        voxel_size=tomogram.voxel_size,
        tilts=tomogram.tilts,
        assessment=found,
        record=folder.record,
        metrics=metrics_of(folder.record, folder.path("metrics.csv")),
    )
    write_report(folder.path("report.html"), contents)
    log.info("wrote %s", folder.path("report.html"))


def write_results(folder: RunFolder, tomogram: Tomogram, restoration: Restoration, config: RunConfig) -> None:
    """Write the volumes with the header of the input, and preview.png."""
    volumes = {"mean": restoration.mean, "std": restoration.std}
    if restoration.halves is not None:
        volumes |= {"mean_half1": restoration.halves[0], "mean_half2": restoration.halves[1]}
    volumes |= {f"sample_{i}": sample for i, sample in enumerate(restoration.samples)}
    for kind, density in volumes.items():
        note = note_of(kind, config)
        stored = as_stored(density.numpy()) if tomogram.unrotated else density.numpy()
        write_volume(folder.result(kind), stored, tomogram.source, tomogram.voxel_size, note)
        log.info("wrote %s", folder.result(kind))
    picture(folder, tomogram, restoration, config)


def note_of(kind: str, config: RunConfig) -> str:
    """What the header of a restored volume says of how it was made."""
    how = "raw" if config.restoration.raw else "data-consistent"
    settings = config.restoration
    return f"{posterior_name(asdict(settings))} {kind}, {how}, {settings.samples} samples, seed {settings.seed}"


def picture(folder: RunFolder, tomogram: Tomogram, restoration: Restoration, config: RunConfig) -> None:
    """Write preview.png."""
    settings = config.restoration
    how = "raw" if config.restoration.raw else "data-consistent"
    preview(
        folder.path("preview.png"),
        np.asarray(tomogram.density, dtype=np.float32),
        restoration.mean.numpy(),
        restoration.std.numpy(),
        tomogram.voxel_size,
        f"{tomogram.name}: {posterior_name(asdict(settings))} mean and standard deviation of {settings.samples} samples, {how}",
    )


def inputs_of(full: Path | None, halves: tuple[Path, Path] | None, tilts: Path | None) -> dict[str, Path]:
    """The input files by their role, for the record."""
    found = {} if full is None else {"tomogram": full}
    if halves is not None:
        found |= {"half1": halves[0], "half2": halves[1]}
    return found | ({} if tilts is None else {"tilts": tilts})
