"""The steps of a batch, each a job: make a mask, train the model, restore one tomogram, score it.

A step that is done is skipped, one that was interrupted is resumed, one that is stale is computed again. A step may therefore
run twice, and a job that a cluster puts into its queue again needs no other command.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from cryovae.batch.plan import AT_ONCE, Opened, evaluated, fits, model_state, state_of
from cryovae.checkpoint import MODEL, STATE, load_network
from cryovae.checks.preflight import preflight, read_and_mended
from cryovae.config import as_plain
from cryovae.errors import InputError
from cryovae.io.atomic import whole_file
from cryovae.io.claim import InUse
from cryovae.io.star.loading import Tomograms, load_entry
from cryovae.io.star.tomograms import Entry, TomogramTable
from cryovae.workflows.adapt import SAMPLER, open_checkpoint
from cryovae.workflows.evaluate import evaluate_volume
from cryovae.workflows.mask import MaskOptions, write_mask
from cryovae.workflows.memory import budget_of
from cryovae.workflows.restoration import Job, train_on
from cryovae.workflows.run_folder import RunFolder, log, noted, process, read_record, summed
from cryovae.workflows.start import Start, default_start, start_of
from cryovae.workflows.table import MODEL_FOLDER, begun, inputs_of_table, restore_row
from cryovae.workflows.train_crops import within

BAND = (0.01, 0.2)


def train_step(batch: Opened, device: torch.device) -> None:
    """Train one model on the rows that can be used; its record names the others. InputError if no row can be used."""
    with alone(batch.model):
        if model_state(batch) == "done":
            print("the model is there and fits, nothing is trained")
            return
        if not fits(batch, read_record(batch.model / "run.json")):
            for name in (STATE, MODEL, SAMPLER):
                (batch.model / name).unlink(missing_ok=True)
        usable, left_out = _usable(batch)
        if not usable:
            reasons = "; ".join(f"{name}: {why}" for name, why in left_out.items())
            raise InputError(f"none of {len(left_out)} tomograms can be used, {reasons}")
        folder = RunFolder(batch.model, MODEL_FOLDER)
        table = replace(batch.table, entries=tuple(usable))
        loaded = Tomograms([e.name for e in usable], lambda i, mapped: load_entry(usable[i], batch.batch.voxel_size, mapped))
        tomograms = within(read_and_mended(loaded), [e.files[0] for e in usable], batch.config, device, budget_of(None))
        start, inputs = _start_of(batch), inputs_of_table(table)
        if start is not None and not start.trains and _restores_at_once(batch, folder, table, start, device):
            folder.save(left_out=left_out)
            return
        train_on(folder, tomograms, inputs, batch.config, device, resume=True, force=batch.batch.force, start=start)
        folder.save(left_out=left_out)


def _start_of(batch: Opened) -> Start | None:
    """The network that the model of a batch begins with."""
    plan = batch.batch
    return default_start(batch.config) if plan.start is None else start_of(plan.start, plan.trains)


def _restores_at_once(batch: Opened, folder: RunFolder, table: TomogramTable, start: Start, device: torch.device) -> bool:
    """Try the network that the user named on the first usable row; if it restores at once, it becomes the model of the batch."""
    plan = batch.batch
    job = Job(batch.config, device, budget_of(None), voxel_size=plan.voxel_size, force=plan.force, start=start)
    network, begun_job = begun(table, replace(job, sampler_asked=plan.sampler_asked))
    if network is None:
        return False
    with folder.claimed():
        folder.begin("train", summed(inputs_of_table(table)), as_plain(batch.config), batch.config.training.seed)
        with noted(folder):
            file = network / MODEL if network.is_dir() else network
            flow = file.with_name(SAMPLER)
            for source in (file, flow) if flow.is_file() else (file,):
                with whole_file(folder.path(MODEL if source == file else SAMPLER)) as beside:
                    shutil.copyfile(source, beside)
            folder.save(start=start.record(), **{AT_ONCE: {"restoration.sampler": begun_job.config.restoration.sampler}})
    return True


def _usable(batch: Opened) -> tuple[list[Entry], dict[str, str]]:
    """The rows whose voxels can be read, and why others cannot; one tomogram at a time is in memory."""
    usable, left_out = [], dict(batch.problems)
    for entry in batch.entries:
        try:
            preflight(load_entry(entry, batch.batch.voxel_size), batch.batch.force)
            usable.append(entry)
        except (InputError, OSError) as error:
            left_out[entry.name] = str(error)
            print(f"{entry.name} is left out: {error}", file=sys.stderr)
    return usable, left_out


def restore_step(batch: Opened, name: str, device: torch.device) -> None:
    """Restore one row by the model. An error in its input is noted in its record."""
    folder = RunFolder(batch.out / name, name, batch.batch.suffix)
    with alone(folder.folder), failure_noted(folder):
        entry = batch.entry(name)
        config = batch.config
        network = open_checkpoint(batch.model) if config.objective.variational else load_network(batch.model)
        if state_of(batch, entry) == "done":
            print(f"{name}: done before, skipped")
        else:
            force = batch.batch.force
            restore_row(
                folder, entry, network, batch.model, batch.mark, config, device, True, batch.batch.voxel_size, force=force
            )
        folder.hand_over(batch.out)


def evaluate_step(batch: Opened, name: str) -> None:
    """Score one restored row by its halves, and by its truth if there is one; write evaluation.json and the report."""
    entry = batch.entry(name)
    where = batch.out / name
    with alone(where):
        if not evaluated(batch, entry):
            mean, scores = where / f"{name}_mean{batch.batch.suffix}", where / "evaluation.json"
            evaluate_volume(mean, batch.truth(entry), None, None, BAND, False, scores, voxel_size=batch.batch.voxel_size)


def mask_step(batch: Opened, name: str) -> None:
    """Make the mask of a row that has none. One that cannot be read gets none: its restoration says why."""
    where = batch.out / name
    with alone(where):
        try:
            entry = batch.entry(name)
            if entry.mask is None:
                made = batch.mask(entry)
                write_mask(entry.files[0], made, MaskOptions(), batch.batch.unrotated, batch.batch.voxel_size, overwrite=True)
        except InputError as error:
            print(f"{name}: no mask: {error}", file=sys.stderr)


@contextmanager
def failure_noted(folder: RunFolder) -> Iterator[None]:
    """Note an error that was raised before there was a record, e.g. of an input that cannot be read."""
    try:
        yield
    except InUse:
        # The record belongs to the other run, which is still running.
        raise
    except (InputError, OSError) as error:
        if folder.record.get("status") != "failed":
            note_failure(folder, str(error))
        raise


def note_failure(folder: RunFolder, why: str) -> None:
    """Write the record of a row that could not be started."""
    folder.record = {"name": folder.name, "command": "restore", "process": process()}
    folder.save(status="failed", error=why)


@contextmanager
def alone(where: Path) -> Iterator[None]:
    """Wait for another job at the same step, e.g. when a batch was started again while its jobs were in the queue."""
    where.mkdir(parents=True, exist_ok=True)
    with (where / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another job works in {where}: waiting for it", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            # Some cluster file systems have no locks.
            log.info("%s cannot be locked: %s", where, error)
        yield


def queue_again() -> bool:
    """Put this Slurm job into the queue again when its time is over; return whether Slurm accepted it."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        return False
    task = os.environ.get("SLURM_ARRAY_TASK_ID")
    named = job if task is None else f"{os.environ.get('SLURM_ARRAY_JOB_ID', job)}_{task}"
    try:
        asked = subprocess.run(["scontrol", "requeue", named], capture_output=True, text=True, check=False)
    except OSError as error:
        print(f"job {named} was not queued again: {error}", file=sys.stderr)
        return False
    print(asked.stderr or f"job {named} is queued again", file=sys.stderr)
    return asked.returncode == 0
