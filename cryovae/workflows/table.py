"""Many tomograms from a STAR table: one model for all, then each restored into a folder of its own, and the table written anew.

Rows that are done are passed over, so that the same command goes on where it was stopped.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from cryovae import distributed
from cryovae.checkpoint import MODEL, Checkpoint, NetworkCheckpoint, load_model, load_network, objective_of
from cryovae.config import RunConfig, as_plain, override, save_config
from cryovae.errors import InputError
from cryovae.io.star.loading import checked_sizes, load_entry, sizes_differ, tomograms_of
from cryovae.io.star.tomograms import Entry, TomogramTable, read_tomograms, results_columns, write_results
from cryovae.tomogram import TiltGeometry, Tomogram
from cryovae.workflows.geometry_record import recorded
from cryovae.workflows.memory import budget_of
from cryovae.workflows.regression import regress_in, train_networks_in
from cryovae.workflows.restore import check_room, restore_in, results_of
from cryovae.workflows.restore_streamed import is_streamed, restore_streamed_in
from cryovae.workflows.run_folder import RunFolder, checksum, log, noted, read_record, unchanged
from cryovae.workflows.train import train_in
from cryovae.workflows.train_crops import within

MODEL_FOLDER = "model"


def open_table(path: Path, tilts: TiltGeometry | None, voxel_size: float | None, ctf: bool = False) -> TomogramTable:
    """A table all of whose files are there and can be opened, before any work begins; says if voxel sizes differ.

    ctf: keep what it tells of the contrast transfer, which is divided out then. InputError if a row tells nothing of it.
    """
    table = read_tomograms(path, tilts)
    if not ctf:
        table = replace(table, entries=type(table.entries)(replace(e, optics=None) for e in table.entries))
    elif unknown := [entry.name for entry in table.entries if entry.optics is None]:
        raise InputError(f"{path} tells no defocus of {', '.join(unknown)}: add the column rlnDefocus, or leave out --ctf")
    differ = sizes_differ(checked_sizes(table, voxel_size))
    if differ is not None:
        print(f"{path}: {differ}", file=sys.stderr)
    return table


def inputs_of_table(table: TomogramTable) -> dict[str, Path]:
    """The table and its volumes by their role, for the record."""
    files = {f"{entry.name}_{i}": file for entry in table.entries for i, file in enumerate(entry.files)}
    return {"table": table.path} | files


def train_on(
    folder: RunFolder,
    tomograms: Sequence[Tomogram],
    inputs: dict[str, Path],
    config: RunConfig,
    device: torch.device,
    resume: bool,
) -> None:
    """Train one model on tomograms in ``folder``, with its record."""
    folder.begin("train", inputs, as_plain(config), config.training.seed)
    save_config(folder.path("config.toml"), config)
    with noted(folder):
        (train_in if config.objective.variational else train_networks_in)(folder, tomograms, config, device, resume)


def restore_table(
    table: TomogramTable,
    output: Path,
    model: Path | None,
    config: RunConfig,
    device: torch.device,
    resume: bool = False,
    overwrite: bool = False,
    voxel_size: float | None = None,
    suffix: str = ".mrc",
    budget: int | None = None,
) -> Path:
    """Restore every row by one model, trained on all of them first if none is given; returns the table with the results.

    A row whose input cannot be used is passed over, and named in the InputError at the end. InputError at once if the table would
    be written over itself, or rows that are done were restored by another model or with other settings.
    """
    target = output / table.path.name
    if target.exists() and target.samefile(table.path):
        raise InputError(f"{target} is the table that was read, expected another folder: pass it with -o")
    model = model or _trained(output / MODEL_FOLDER, table, config, device, resume, overwrite, voxel_size, budget)
    config = override(config, {"objective.name": objective_of(model)})
    network = load_model(model) if config.objective.variational else load_network(model)
    mark = checksum(model / MODEL if model.is_dir() else model)
    done = {} if overwrite else {e.name: _done(output / e.name, e, config, mark, suffix) for e in table.entries}
    results: list[Mapping[str, Path]] = [{} for _ in table.entries]
    failed: list[str] = []
    for number, entry in enumerate(table.entries):
        folder = RunFolder(output / entry.name, entry.name, suffix)
        if done.get(entry.name):
            print(f"{entry.name}: done before, passed over ({number + 1}/{len(table.entries)})")
        else:
            print(f"{entry.name}: restoring ({number + 1}/{len(table.entries)})")
            try:
                restore_row(folder, entry, network, model, mark, config, device, overwrite, voxel_size, budget)
            except InputError as error:
                print(f"cryovae: {entry.name}: {error}", file=sys.stderr)
                failed.append(entry.name)
        results[number] = {kind: folder.result(kind) for kind in results_columns(table) if folder.result(kind).exists()}
        if not distributed.rank():
            write_results(target, table, results)
    if failed:
        raise InputError(f"{len(failed)} of {len(table.entries)} tomograms could not be restored, {', '.join(failed)}: see above")
    return target


def _trained(
    where: Path,
    table: TomogramTable,
    config: RunConfig,
    device: torch.device,
    resume: bool,
    overwrite: bool,
    voxel_size: float | None,
    budget: int | None,
) -> Path:
    """The folder of the model that belongs to a table, trained now unless it is there."""
    if overwrite or not (where / MODEL).exists():
        folder = RunFolder(where, MODEL_FOLDER)
        most = budget_of(None) if budget is None else budget
        loaded = within(tomograms_of(table, voxel_size), [entry.files[0] for entry in table.entries], config, device, most)
        train_on(folder, loaded, inputs_of_table(table), config, device, resume)
    else:
        print(f"{where / MODEL} is there, so nothing is trained")
    return where


def restore_row(
    folder: RunFolder,
    entry: Entry,
    network: Checkpoint | NetworkCheckpoint,
    model: Path,
    mark: str,
    config: RunConfig,
    device: torch.device,
    overwrite: bool,
    voxel_size: float | None,
    budget: int | None = None,
) -> None:
    """Restore one row of a table by a loaded model, with its record. InputError if its input cannot be used.

    mark: the checksum of the model. budget: bytes of memory that may be taken, or None for a share of what is free; a row that
    needs more is restored by parts, and goes on where it was broken off.
    """
    most, trained = budget or budget_of(None), network if isinstance(network, Checkpoint) else None
    streamed = trained is not None and is_streamed(
        entry.files[0], entry.halves is not None, trained, config, device, most, budget is not None, folder.suffix
    )
    loaded = load_entry(entry, voxel_size, streamed)
    # A record that is not done is of a run that was broken off; what it left is ours to replace.
    check_room(folder, loaded, config, overwrite or folder.path("run.json").exists())
    inputs = {f"half{i + 1}" if entry.halves else "tomogram": file for i, file in enumerate(entry.files)}
    folder.begin("restore", inputs, as_plain(config), config.restoration.seed)
    folder.tell(loaded.notes)
    folder.save(tilts=recorded(loaded.tilts), unrotated=loaded.unrotated, model=str(model), model_sha256=mark)
    save_config(folder.path("config.toml"), config)
    with noted(folder):
        if isinstance(network, NetworkCheckpoint):
            regress_in(folder, loaded, network, config, device)
        elif streamed:
            restore_streamed_in(folder, loaded, network, config, device, most, resume=True)
        else:
            restore_in(folder, loaded, network, config, device)
    log.info("restored %s", entry.name)


def row_state(where: Path, entry: Entry, config: RunConfig, mark: str, suffix: str) -> str:
    """'done', 'missing', or 'stale': restored by another model or other settings, or from inputs or tilts that have changed.

    mark: the checksum of the model.
    """
    found = read_record(where / "run.json")
    if found.get("status") != "done" or found.get("command") != "restore":
        return "missing"
    same = found.get("model_sha256") == mark and found.get("config", {}).get("restoration") == _plain(config)
    if not same or not unchanged(found.get("inputs", {})) or _tilts_differ(found, entry):
        return "stale"
    there = all((where / f"{entry.name}_{kind}{suffix}").exists() for kind in results_of(entry.halves is not None, config))
    return "done" if there else "missing"


def _done(where: Path, entry: Entry, config: RunConfig, mark: str, suffix: str) -> bool:
    """Whether a row was restored to the end. InputError if that was by another model, with other settings or from other data."""
    state = row_state(where, entry, config, mark, suffix)
    if state == "stale":
        raise InputError(
            f"{where} was restored by another model, with other settings or from other data: pass --overwrite, or another -o"
        )
    return state == "done"


def _tilts_differ(record: dict[str, Any], entry: Entry) -> bool:
    return entry.tilts is not None and record.get("tilts") != json.loads(json.dumps(recorded(entry.tilts)))


def _plain(config: RunConfig) -> object:
    return json.loads(json.dumps(as_plain(config)["restoration"]))
