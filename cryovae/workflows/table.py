"""Many tomograms from a STAR table: one model for all, then each restored into a folder of its own, and the table written anew.

Finished rows are skipped, so the same command continues a run that was stopped.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from cryovae import distributed
from cryovae.checkpoint import MODEL
from cryovae.checks.preflight import preflight, read_and_mended
from cryovae.config import RunConfig, as_plain
from cryovae.errors import InputError
from cryovae.io.claim import InUse
from cryovae.io.files import check_result_name, read_volume
from cryovae.io.geometry_record import recorded
from cryovae.io.names import in_one_line
from cryovae.io.star.loading import checked_sizes, load_entry, sizes_differ, tomograms_of
from cryovae.io.star.results import results_columns, write_results
from cryovae.io.star.tomograms import Entry, TomogramTable, read_tomograms
from cryovae.progress.costs import Work, expect
from cryovae.restoration.config import is_old_default
from cryovae.restoration.rescaling import check_ratio
from cryovae.workflows.extend import is_extended
from cryovae.workflows.geometry import GeometryOptions
from cryovae.workflows.memory import budget_of
from cryovae.workflows.optics import OpticsOptions
from cryovae.workflows.plan import plan_of
from cryovae.workflows.restoration import (
    Job,
    Network,
    TrainedModel,
    begin,
    inputs_of_entry,
    open_model,
    restore_tomogram,
    stays_on_disk,
    train_on,
)
from cryovae.workflows.restore import results_of
from cryovae.workflows.resume import check_model
from cryovae.workflows.run_folder import RunFolder, log, read_record, same_file, unchanged
from cryovae.workflows.start import start_of_model
from cryovae.workflows.streaming import shape_of
from cryovae.workflows.train_crops import within

MODEL_FOLDER = "model"


def open_table(path: Path, geometry: GeometryOptions, optics: OpticsOptions) -> TomogramTable:
    """A table all of whose files can be opened, before any work begins; prints a line if voxel sizes differ.

    Args:
        path: the .star file.
        geometry: tilts of the rows that have none, changes to all tilts, voxel size.
        optics: whether the contrast transfer that the table has is divided out.

    Raises:
        InputError: a row cannot be used, or an option does not fit a table.
    """
    tilts, ctf = geometry.default_tilts, optics.for_table(path)
    table = read_tomograms(path, tilts)
    if not ctf:
        table = replace(table, entries=tuple(replace(e, optics=None) for e in table.entries))
    elif unknown := [entry.name for entry in table.entries if entry.optics is None]:
        raise InputError(f"{path} has no defocus of {', '.join(unknown)}: add the column rlnDefocus, or leave out --ctf")
    differ = sizes_differ(checked_sizes(table, geometry.voxel_size))
    if differ is not None:
        print(f"{path}: {differ}", file=sys.stderr)
    return geometry.adjust(table)


def inputs_of_table(table: TomogramTable) -> dict[str, Path]:
    """The table and its volumes by their role, for the record."""
    files = {f"{entry.name}_{i}": file for entry in table.entries for i, file in enumerate(entry.files)}
    masks = {f"{entry.name}_mask": entry.mask for entry in table.entries if entry.mask is not None}
    return {"table": table.path} | files | masks


def restore_table(table: TomogramTable, output: Path, model: Path | None, job: Job) -> Path:
    """Restore every row of a table by one model.

    Rows whose input cannot be used are skipped, and named in the InputError at the end.

    Args:
        table: the tomograms.
        output: folder of the results, one folder for each row within it.
        model: a trained model, or None to train one on all rows first.
        job: settings, device and memory.

    Returns:
        The table with the results.

    Raises:
        InputError: the table would be overwritten, finished rows were restored by another model or with other settings, or a
            row could not be restored.
    """
    target = output / table.path.name
    if target.exists() and target.samefile(table.path):
        raise InputError(f"{target} is the table that was read, expected another folder: pass it with -o")
    _check_names(table, target, job.suffix)
    _check_output_voxels(table, job)
    if model is None and job.start is not None and not job.start.trains:
        model, job = begun(table, job)
    trained, config = open_model(model or _train_model(output / MODEL_FOLDER, table, job), job.config)
    expect(_work(table, output, replace(job, config=config), 0), job.device.type == "cuda")
    suffix, count = job.suffix, len(table.entries)
    done = (
        set()
        if job.overwrite
        else {e.name for e in table.entries if _is_done(output / e.name, e, config, trained.sha256, suffix, job)}
    )
    results: list[Mapping[str, Path]] = [{} for _ in table.entries]
    failed: list[str] = []
    budget = job.budget if job.budget_asked else None
    for number, entry in enumerate(table.entries):
        folder = RunFolder(output / entry.name, entry.name, suffix)
        if entry.name in done:
            print(f"{entry.name}: done before, skipped ({number + 1}/{count})")
        else:
            print(f"{entry.name}: restoring ({number + 1}/{count})")
            network, path, mark = trained.network, trained.path, trained.sha256
            try:
                # What the model before its extension restored is replaced.
                anew = job.overwrite or (_is_extension(output, job) and _is_of_another(folder, mark))
                restore_row(folder, entry, network, path, mark, config, job.device, anew, job.voxel_size, budget, job.force)
            except InUse:
                raise
            except InputError as error:
                print(in_one_line(f"cryovae: {entry.name}: {error}"), file=sys.stderr)
                failed.append(entry.name)
        results[number] = {kind: folder.result(kind) for kind in results_columns(table) if folder.result(kind).exists()}
        folder.hand_over(output)
        if not distributed.rank():
            write_results(target, table, results, start_of_model(trained.path))
    if failed:
        raise InputError(f"{len(failed)} of {count} tomograms could not be restored, {', '.join(failed)}: see above")
    return target


def _is_of_another(folder: RunFolder, mark: str) -> bool:
    """Whether a row was begun by another model."""
    return read_record(folder.path("run.json")).get("model_sha256", mark) != mark


def _check_names(table: TomogramTable, target: Path, suffix: str) -> None:
    """InputError if a row has the name of a file of ours, or one that is not possible in the format of the results."""
    for entry in table.entries:
        check_result_name(entry.name, suffix)
        if entry.name.casefold() in (MODEL_FOLDER, target.name.casefold()):
            raise InputError(f"{table.path} row {entry.row} is called {entry.name}, as a file of ours is: rename it")


def _check_output_voxels(table: TomogramTable, job: Job) -> None:
    """InputError if a row cannot be written at the voxel size of --output-voxel-size."""
    if new := job.config.restoration.output_voxel_size:
        for entry, size in zip(table.entries, checked_sizes(table, job.voxel_size).values(), strict=True):
            check_ratio(size, new, read_volume(entry.files[0]).density.shape)


def _work(table: TomogramTable, output: Path, job: Job, steps: int) -> Work:
    """What is to be done for the rows that have no results, after so many steps of training."""
    left = [e for e in table.entries if job.overwrite or not (output / e.name / f"{e.name}_mean{job.suffix}").exists()]
    shapes, halves = [shape_of(e.files[0]) for e in left or table.entries], any(e.halves for e in left)
    plan = plan_of(job.config, steps_left=steps)
    return replace(plan, fits=plan.fits and steps > 0).work(shapes, halves)


def begun(table: TomogramTable, job: Job) -> tuple[Path | None, Job]:
    """The network that restores all rows at once, or None if one is to be trained from it; tried on the first usable row."""
    assert job.start is not None
    for entry in table.entries:
        try:
            tomogram = preflight(load_entry(entry, job.voxel_size, True), job.force).tomograms[0]
        except InputError:
            # The row is named where it would be restored.
            continue
        network, config, lines, _ = begin(job.start, tomogram, job, job.config)
        print(*lines, sep="\n", file=sys.stderr)
        return (None if network is None else network.path), replace(job, config=config)
    return job.start.path, job


def _train_model(where: Path, table: TomogramTable, job: Job) -> Path:
    """Train the model of a table unless it is there; returns its folder."""
    record = read_record(where / "run.json")
    is_more = job.resume and is_extended(record, job.config)
    if not job.overwrite and (where / MODEL).exists() and not is_more:
        check_model(
            where,
            record,
            job.config,
            inputs_of_table(table),
            _geometry_of(table, job.voxel_size),
            None if job.start is None else job.start.record(),
        )
        print(f"{where / MODEL} is there, so nothing is trained")
        return where
    budget = job.budget if job.budget_asked else budget_of(None)
    tomograms = read_and_mended(tomograms_of(table, job.voxel_size))
    tomograms = within(tomograms, [entry.files[0] for entry in table.entries], job.config, job.device, budget)
    resume = job.resume and not job.overwrite
    inputs = inputs_of_table(table)
    work = _work(table, where.parent, job, job.config.training.steps)
    folder = RunFolder(where, MODEL_FOLDER)
    train_on(folder, tomograms, inputs, job.config, job.device, resume, job.force, start=job.start, work=work)
    return where


def _geometry_of(table: TomogramTable, voxel_size: float | None) -> dict[str, dict[str, Any]]:
    return {entry.name: _known_geometry(entry, voxel_size) for entry in table.entries}


def _known_geometry(entry: Entry, voxel_size: float | None) -> dict[str, Any]:
    """What is known of a row before its volumes are read, by key of run.json."""
    size = voxel_size or entry.voxel_size
    known: dict[str, Any] = {"optics": None if entry.optics is None else asdict(entry.optics)}
    known |= {} if entry.tilts is None else {"tilts": recorded(entry.tilts)}
    return known | ({} if size is None else {"voxel_size": size})


def restore_row(
    folder: RunFolder,
    entry: Entry,
    network: Network,
    model: Path,
    mark: str,
    config: RunConfig,
    device: torch.device,
    overwrite: bool,
    voxel_size: float | None,
    budget: int | None = None,
    force: bool = False,
) -> None:
    """Restore one row of a table by a loaded model, with its record.

    Args:
        folder: of the results.
        entry: the row.
        network: the trained network.
        model: its file, or the folder of its run.
        mark: its SHA-256.
        config: all settings.
        device: where the network runs.
        overwrite: whether to replace the results of a finished run.
        voxel_size: in angstrom, over the table and the headers, or None.
        budget: bytes of memory that may be used, or None for a share of what is free; a row that needs more is restored out of
            core, and is resumed if it was stopped.
        force: whether refusals of the checks of the input pass.

    Raises:
        InputError: the input of the row cannot be used.
    """
    job = Job(
        config,
        device,
        budget or budget_of(None),
        budget_asked=budget is not None,
        resume=True,
        overwrite=overwrite,
        voxel_size=voxel_size,
        suffix=folder.suffix,
        force=force,
    )
    streamed = stays_on_disk(entry, network, job)
    tomogram = load_entry(entry, voxel_size, streamed)
    # A record that is not done is that of a stopped run, whose results may be replaced.
    replace_results = overwrite or folder.path("run.json").exists()
    restore_tomogram(folder, entry, tomogram, TrainedModel(network, model, mark), job, streamed, replace_results)
    log.info("restored %s", entry.name)


def row_state(
    where: Path,
    entry: Entry,
    config: RunConfig,
    mark: str,
    suffix: str,
    voxel_size: float | None = None,
    extends: bool = False,
) -> str:
    """'done', 'missing', or 'stale': restored by another model or other settings, or from inputs or a geometry that have changed.

    Args:
        where: the folder of the row.
        entry: the row.
        config: all settings.
        mark: SHA-256 of the model.
        suffix: of the volumes, one of ``io.files.FORMATS``.
        voxel_size: in angstrom, over the table and the headers, or None.
        extends: whether the model has gone on to more steps since: a row of the model before is not stale for that.
    """
    record = read_record(where / "run.json")
    if record.get("status") != "done" or record.get("command") != "restore":
        return "missing"
    # Settings that records of earlier versions lack.
    names = "other_scale", "outputs", "output_voxel_size"
    added = {name: _plain(config)[name] for name in names}
    settings = added | record.get("config", {}).get("restoration", {})
    now_settings = _plain(config)
    if is_old_default(settings.get("samples_out"), now_settings["samples_out"]):
        settings["samples_out"] = now_settings["samples_out"]
    same = (extends or record.get("model_sha256") == mark) and settings == now_settings
    if not same or not unchanged(record.get("inputs", {})) or _inputs_differ(record, entry):
        return "stale"
    now = json.loads(json.dumps(_known_geometry(entry, voxel_size)))
    # Records of earlier versions lack some keys.
    if any(record[key] != value for key, value in now.items() if key in record):
        return "stale"
    if record.get("model_sha256") != mark:
        return "missing"
    complete = all(
        (where / f"{entry.name}_{kind}{suffix}").exists() for kind in results_of(entry.halves is not None, config, record)
    )
    return "done" if complete else "missing"


def _is_done(where: Path, entry: Entry, config: RunConfig, mark: str, suffix: str, job: Job) -> bool:
    """Whether a row was restored to the end. InputError if that was by another model, with other settings or from other data.

    A row whose model has gone on to more steps since is restored again with --resume.
    """
    state = row_state(where, entry, config, mark, suffix, job.voxel_size, _is_extension(where.parent, job))
    if state == "stale":
        raise InputError(
            f"{where} was restored by another model, with other settings or from other data: pass --overwrite, or another -o"
        )
    return state == "done"


def _is_extension(output: Path, job: Job) -> bool:
    """Whether the model of a table has gone on to more steps with --resume."""
    return job.resume and "extended" in read_record(output / MODEL_FOLDER / "run.json")


def _inputs_differ(record: dict[str, Any], entry: Entry) -> bool:
    """Whether a row names other files now; masks were no inputs in earlier versions, which kept no voxel size either."""
    known, now = record.get("inputs", {}), inputs_of_entry(entry)
    if "voxel_size" not in record:
        now.pop("mask", None)
    volumes = {role: about for role, about in known.items() if role != "tilts"}
    return volumes.keys() != now.keys() or not all(same_file(about, now[role]) for role, about in volumes.items())


def _plain(config: RunConfig) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads(json.dumps(as_plain(config)["restoration"]))
    return settings
