"""Train and restore as a request says. The command line and Python callers use these two functions."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from cryovae.checkpoint import MODEL
from cryovae.checks.preflight import read_and_mended
from cryovae.errors import InputError
from cryovae.io.files import read_volume, suffix_of
from cryovae.io.names import checked_name, common_name, tomogram_name
from cryovae.io.outputs import check_folder
from cryovae.io.star.loading import Tomograms, load_entry, tomograms_of
from cryovae.io.star.particles import is_particle_table, read_particles
from cryovae.io.star.tomograms import Entry
from cryovae.phases import announced
from cryovae.progress.display import Display
from cryovae.progress.tasks import CHECKING
from cryovae.tomogram import Tomogram
from cryovae.workflows.geometry import TiltAdjustment
from cryovae.workflows.memory import budget_of
from cryovae.workflows.orientation import LOOKED_AT, is_unrotated
from cryovae.workflows.particles import tomograms_of_particles
from cryovae.workflows.plan import plan_of
from cryovae.workflows.requests import RestoreRequest, TrainRequest
from cryovae.workflows.restoration import Job, open_model, restore_tomogram, stays_on_disk, train_on
from cryovae.workflows.run_folder import RunFolder, folder_name
from cryovae.workflows.start import continued, default_start, start_of
from cryovae.workflows.streaming import shape_of
from cryovae.workflows.table import inputs_of_table, open_table, restore_table
from cryovae.workflows.train_crops import within


def restore(request: RestoreRequest) -> Path:
    """Restore a tomogram, or every row of a table.

    Args:
        request: the files, the settings and the folder.

    Returns:
        The restored mean, or the table with the results.

    Raises:
        InputError: an input or a setting cannot be used.
    """
    check_restoring(request)
    with Display(), announced(CHECKING):
        if request.tomogram is not None and is_table(request.tomogram):
            job = job_of(request)
            table = open_table(request.tomogram, request.geometry, request.optics)
            return restore_table(table, request.output, request.model, job)
        return _restore_files(request)


def check_restoring(request: RestoreRequest) -> None:
    """InputError if the files of a request do not go together, or its folder cannot take results."""
    if (request.half1 is None) != (request.half2 is None):
        raise InputError("one half found, expected both: pass --half1 and --half2, or one tomogram")
    if request.model is not None and request.start is not None:
        raise InputError("--model and --from found, expected one of them: --model restores, --from may also be trained further")
    if request.tomogram is not None and request.half1 is not None:
        raise InputError("a tomogram and halves were given, expected one or the other: their mean is used when halves are given")
    check_folder(request.output)


def train(request: TrainRequest) -> Path:
    """Train one model on tomograms, on the rows of a table, or on the subtomograms of a table of particles.

    Args:
        request: the files, the settings and the folder.

    Returns:
        The file of the model.

    Raises:
        InputError: an input or a setting cannot be used.
    """
    check_training(request)
    with Display(), announced(CHECKING):
        return _train(request)


def check_training(request: TrainRequest) -> None:
    """InputError if the files of a request do not go together, or its folder cannot take results."""
    listed = any(is_table(path) for path in request.tomograms)
    if listed and (len(request.tomograms) > 1 or request.half2):
        raise InputError("a table and other tomograms were given, expected one .star alone: put all of them into the table")
    if request.half2 and len(request.half2) != len(request.tomograms):
        raise InputError(f"{len(request.half2)} second halves found for {len(request.tomograms)} first halves, expected as many")
    check_folder(request.output)


def _train(request: TrainRequest) -> Path:
    first, listed = request.tomograms[0], any(is_table(path) for path in request.tomograms)
    job = job_of(request)
    if listed and is_particle_table(first):
        tomograms, files, inputs = _particles(request), [], {"table": first}
    elif listed:
        table = open_table(first, request.geometry, request.optics)
        tomograms, files = tomograms_of(table, request.geometry.voxel_size), [entry.files[0] for entry in table.entries]
        inputs = inputs_of_table(table)
    else:
        tomograms, files = _named(request), request.tomograms
        inputs = {f"tomogram{i}": path for i, path in enumerate(files)}
        inputs |= {f"half2_{i}": path for i, path in enumerate(request.half2 or [])}
        masks = request.geometry.masks(len(files))
        inputs |= {f"mask{i}": path for i, path in enumerate(masks) if path is not None}
    if files:
        tomograms = within(read_and_mended(tomograms), files, job.config, job.device, job.budget)
    folder = RunFolder(request.output, folder_name(request.output))
    if folder.path(MODEL).exists() and not (request.results.overwrite or request.results.resume):
        raise InputError(f"{folder.path(MODEL)} is there already: pass --overwrite, or another folder with -o")
    resume = request.results.resume and not request.results.overwrite
    shapes = [shape_of(file) for file in files]
    work = plan_of(job.config).work(shapes, bool(request.half2), restores=False) if files else None
    train_on(folder, tomograms, inputs, job.config, job.device, resume, job.force, start=job.start, work=work)
    return folder.path(MODEL)


def _restore_files(request: RestoreRequest) -> Path:
    """Restore the tomogram, or the two halves, that are named."""
    entry = entry_of(request)
    job = job_of(request)
    model = None
    if request.model is not None:
        model, config = open_model(request.model, job.config)
        job = replace(job, config=config)
    known = model.network if model is not None else None if job.start is None else job.start.network
    streamed = stays_on_disk(entry, known, job)
    unrotated = is_unrotated(entry.files[0], request.geometry.unrotated, LOOKED_AT if streamed else None)
    tomogram = load_entry(replace(entry, unrotated=unrotated), job.voxel_size, streamed)
    if streamed and job.start is not None and job.start.trains:
        # That no part of it fits into memory is said before the network is tried.
        within(Tomograms([tomogram.name], lambda *_: tomogram), [entry.files[0]], job.config, job.device, job.budget)
    folder = RunFolder(request.output, tomogram.name, job.suffix)
    inputs = {"tilts": request.geometry.tilts[0]} if request.geometry.tilts else {}
    restore_tomogram(folder, entry, tomogram, model, job, streamed, job.overwrite or job.resume, inputs)
    folder.hand_over(request.output)
    return folder.result("mean")


def entry_of(request: RestoreRequest) -> Entry:
    """The named files as the row of a table would name them. InputError if there are none, or an option is impossible."""
    geometry = request.geometry
    if request.half1 is not None and request.half2 is not None:
        halves, full = (request.half1, request.half2), None
        name = checked_name(common_name(halves), str(halves[0]))
    elif request.tomogram is not None:
        halves, full = None, request.tomogram
        name = checked_name(tomogram_name(full), str(full))
    else:
        raise InputError("no tomogram given: name an MRC file or a folder of OME-Zarr, or --half1 and --half2")
    for path in halves or (full,):
        if path is not None and not path.exists():
            raise InputError(f"{path} does not exist: check the path")
    tilts = geometry.geometries(1)[0]
    optics, mask = request.optics.for_files(1)[0], geometry.masks(1)[0]
    return Entry(name, 1, full, halves, tilts, None, mask, optics, pixel_size=geometry.pixel_sizes(1)[0])


def job_of(request: TrainRequest | RestoreRequest) -> Job:
    """Settings, device and memory of a request. InputError if one of them is impossible."""
    compute = request.compute
    budget, device = budget_of(compute.memory), compute.open_device()
    config = request.settings.resolved("quick" if device.type == "cpu" else "default")
    settings, is_training = request.settings, isinstance(request, TrainRequest)
    start = start_of(request.start, is_training or settings.names("training.steps"))
    if request.start is None and (isinstance(request, TrainRequest) or request.model is None):
        start = default_start(config)
    elif start is not None:
        config = continued(config, start, settings.names)
    job = Job(
        config,
        device,
        budget,
        budget_asked=compute.memory is not None,
        resume=request.results.resume,
        overwrite=request.results.overwrite,
        voxel_size=request.geometry.voxel_size,
        force=request.results.force,
        start=start,
    )
    if isinstance(request, RestoreRequest):
        suffix = suffix_of(request.results.output_format)
        is_asked = settings.names("restoration.sampler") or request.settings.quality is not None
        return replace(job, live=request.results.live, suffix=suffix, sampler_asked=is_asked)
    return job


def is_table(path: Path) -> bool:
    """Whether a path is that of a table."""
    return path.suffix.lower() == ".star"


def _particles(request: TrainRequest) -> Tomograms:
    """The subtomograms of a table of particles. InputError for options that do not fit it."""
    geometry = request.geometry
    if geometry.tilts2 or geometry.mask or geometry.unrotated is not None or geometry.adjustment != TiltAdjustment():
        raise InputError("options of geometry found with a table of particles, expected their tilts in its tables alone")
    return tomograms_of_particles(read_particles(request.tomograms[0], geometry.default_tilts), geometry.voxel_size)


def _named(request: TrainRequest) -> Tomograms:
    """The tomograms of the files that are named. Each is read when it is used; a file that cannot be opened is an error now."""
    firsts, seconds, options = request.tomograms, request.half2 or [], request.geometry
    geometries, masks = options.geometries(len(firsts)), options.masks(len(firsts))
    optics, pixels = request.optics.for_files(len(firsts)), options.pixel_sizes(len(firsts))
    pairs = list(zip(firsts, seconds, strict=True)) if seconds else []
    names = [common_name(pair) for pair in pairs] or [tomogram_name(first) for first in firsts]
    for name, path in zip(names, firsts, strict=True):
        checked_name(name, str(path))
    for path in (*firsts, *seconds):
        for note in read_volume(path).notes:
            print(note, file=sys.stderr)

    def load(index: int, mapped: bool) -> Tomogram:
        first = firsts[index]
        halves = pairs[index] if pairs else None
        entry = Entry(
            names[index], index + 1, None if halves else first, halves, geometries[index], None, masks[index], optics[index]
        )
        entry = replace(entry, unrotated=is_unrotated(first, options.unrotated), pixel_size=pixels[index])
        return load_entry(entry, options.voxel_size, mapped)

    return Tomograms([str(path) for path in firsts], load)
