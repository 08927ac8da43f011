"""What ``restore --dry-run`` and ``train --dry-run`` say: phases, time, memory and files. Nothing is written. Imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

from cryovae.checkpoint import MODEL, STATE, Checkpoint, load_state
from cryovae.checks.preflight import preflight
from cryovae.config import RunConfig
from cryovae.errors import InputError
from cryovae.io.files import read_volume
from cryovae.io.star.loading import load_entry
from cryovae.io.star.particles import is_particle_table
from cryovae.io.star.tomograms import Entry
from cryovae.io.volume import voxel_size_of
from cryovae.phases import duration
from cryovae.progress.costs import Work, machine_factor, tasks_of
from cryovae.restoration.rescaling import check_ratio, is_rescaled, rescaled_shape
from cryovae.workflows.orientation import LOOKED_AT, is_unrotated
from cryovae.workflows.plan import Plan, plan_of
from cryovae.workflows.requests import RestoreRequest, TrainRequest
from cryovae.workflows.restoration import Job, open_model, stays_on_disk
from cryovae.workflows.restore import results_of
from cryovae.workflows.run import check_restoring, check_training, entry_of, is_table, job_of
from cryovae.workflows.run_folder import read_record
from cryovae.workflows.streaming import memory_needed, shape_of
from cryovae.workflows.table import MODEL_FOLDER, open_table

RECORD = ("run.json", "run.log", "config.toml")
OF_TRAINING = (MODEL, "metrics.csv", "loss.png")
OF_FLOW = ("sampler.safetensors", "laps.png")
OF_RESTORING = ("report.html", "preview.png")


@dataclass(frozen=True)
class Target:
    """Files that will be written into one folder.

    Attributes:
        folder: of the files.
        names: of the files that are small or of unknown size.
        volumes: names of volumes, and the bytes of each.
    """

    folder: Path
    names: Sequence[str]
    volumes: dict[str, int]


def say_restore(request: RestoreRequest) -> None:
    """Print what a restoration would do. InputError for what it would refuse before it begins its work."""
    check_restoring(request)
    job = job_of(request)
    if request.tomogram is not None and is_table(request.tomogram):
        _say_table(request, job)
        return
    entry, network = entry_of(request), None
    if request.model is not None:
        model, config = open_model(request.model, job.config)
        network, job = model.network, replace(job, config=config)
    known = network if network is not None else None if job.start is None else job.start.network
    streamed = stays_on_disk(entry, known, job)
    unrotated = is_unrotated(entry.files[0], request.geometry.unrotated, LOOKED_AT if streamed else None)
    tomogram = load_entry(replace(entry, unrotated=unrotated), job.voxel_size, True)
    for finding in preflight(tomogram, job.force).findings:
        print(finding.line)
    halves = entry.halves is not None
    plan = plan_of(job.config, job.start, network, job.sampler_asked)
    if plan.steps:
        plan = replace(plan, steps=_steps_left(request.output, job))
    target = _target(request.output, entry, tomogram.shape, plan, job)
    _check_free(target, job)
    _say(plan.work([tomogram.shape], halves), job, [target], _memory(entry.files[0], halves, known, plan.config, job, streamed))
    if network is None and plan.at_once:
        steps = plan.config.training.steps
        print(f"If {request.start} predicts hidden data worse than clipping, it is trained first: {steps} steps.")


def say_train(request: TrainRequest) -> None:
    """Print what a training would do. InputError for what it would refuse before it begins its work."""
    check_training(request)
    job, first = job_of(request), request.tomograms[0]
    if is_table(first) and is_particle_table(first):
        raise InputError(f"--dry-run found with {first}, a table of particles, expected tomograms: leave it out")
    if is_table(first):
        entries = open_table(first, request.geometry, request.optics).entries
        files, halves = [entry.files[0] for entry in entries], any(entry.halves for entry in entries)
    else:
        files, halves = list(request.tomograms), bool(request.half2)
        request.geometry.geometries(len(files))
    plan = plan_of(job.config, steps_left=_steps_left(request.output, job))
    target = Target(request.output, [*RECORD, *OF_TRAINING, *(OF_FLOW if plan.fits else ())], {})
    if (request.output / MODEL).exists() and not (job.overwrite or job.resume):
        raise InputError(f"{request.output / MODEL} is there already: pass --overwrite, or another folder with -o")
    shapes = [shape_of(file) for file in files]
    _say(plan.work(shapes, halves, restores=False), job, [target], "")


def _say_table(request: RestoreRequest, job: Job) -> None:
    assert request.tomogram is not None
    table = open_table(request.tomogram, request.geometry, request.optics)
    network = None
    if request.model is not None:
        model, config = open_model(request.model, job.config)
        network, job = model.network, replace(job, config=config)
    where = request.output / MODEL_FOLDER
    plan = plan_of(job.config, job.start, network, job.sampler_asked)
    if plan.steps:
        is_trained = (where / MODEL).exists() and not job.overwrite
        plan = replace(plan, steps=0 if is_trained else _steps_left(where, job))
    # The flow is fitted with the model, not row by row; a table tries no network with which a training begins.
    of_model = replace(plan, fits=plan.fits and plan.steps > 0, tries=plan.tries and plan.at_once)
    of_rows = replace(plan, steps=0, fits=False)
    shapes = [shape_of(entry.files[0]) for entry in table.entries]
    targets = [Target(where, [*RECORD, *OF_TRAINING, *(OF_FLOW if of_model.fits else ())], {})] if plan.steps else []
    for entry, shape in zip(table.entries, shapes, strict=True):
        targets.append(_target(request.output / entry.name, entry, shape, of_rows, job))
    targets.append(Target(request.output, [table.path.name], {}))
    halves = any(entry.halves for entry in table.entries)
    _say(of_model.work(shapes, halves), job, targets, "")


def _steps_left(where: Path, job: Job) -> int:
    """Training steps that a run would take, given what lies in its folder."""
    steps = job.config.training.steps
    if not job.resume or job.overwrite:
        return steps
    if (where / STATE).is_file():
        return max(steps - int(load_state(where / STATE)["step"]), 0)
    done = (read_record(where / "run.json").get("training") or {}).get("steps")
    return max(steps - int(done), 0) if done and (where / MODEL).is_file() else steps


def _target(where: Path, entry: Entry, shape: tuple[int, ...], plan: Plan, job: Job) -> Target:
    names, config = [*RECORD, *OF_RESTORING, *(OF_TRAINING if plan.steps else ()), *(OF_FLOW if plan.fits else ())], plan.config
    new = config.restoration.output_voxel_size
    size = voxel_size_of(read_volume(entry.files[0]), job.voxel_size or entry.voxel_size)
    if new:
        check_ratio(size, new, shape)
    volumes = {}
    for kind in results_of(entry.halves is not None, config):
        voxels = prod(rescaled_shape(shape, new / size)) if is_rescaled(kind) else prod(shape)
        volumes[f"{entry.name}_{kind}{job.suffix}"] = 4 * voxels
    return Target(where, names, volumes)


def _check_free(target: Target, job: Job) -> None:
    """InputError if results are there already."""
    there = [target.folder / name for name in target.volumes if (target.folder / name).exists()]
    if there and not (job.overwrite or job.resume):
        raise InputError(f"{there[0]} is there already: pass --overwrite, or another folder with -o")


def _memory(first: Path, halves: bool, known: object, config: RunConfig, job: Job, streamed: bool) -> str:
    trained = known if isinstance(known, Checkpoint) else None
    needed = memory_needed(shape_of(first), halves, trained, config, job.device)
    if streamed:
        return f"{needed / 1e9:.1f} GB in memory, so it is restored out of core within {job.budget / 1e9:.1f} GB"
    return f"about {needed / 1e9:.1f} GB of the {job.budget / 1e9:.1f} GB that may be taken"


def _say(work: Work, job: Job, targets: Sequence[Target], needed: str) -> None:
    machine = machine_factor(job.device.type == "cuda")
    tasks = tasks_of(work)
    print("Phases, and the time that they are expected to take on this machine as busy as it is now:")
    for task in tasks:
        times = f", {task.visits} times" if task.visits > 1 else f", {work.steps} steps" if task.name == "training" else ""
        print(f"  {task.name + times:<36} {duration(machine * task.seconds)}")
    print(f"  {'in all, about':<36} {duration(machine * sum(task.seconds for task in tasks))}")
    if needed:
        print(f"Memory: {needed}.")
    print(f"Device: {job.device}. Files that will be written:")
    for target in targets:
        for name, size in target.volumes.items():
            print(f"  {target.folder / name}  {size / 1e6:.1f} MB")
        print(f"  {target.folder}/: {', '.join(target.names)}")
    print("Dry run: nothing was written.")
