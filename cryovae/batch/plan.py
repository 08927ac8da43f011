"""What a batch is to compute, and what of it is done: its table, its settings, the states of its steps by the run folders."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from cryovae.checkpoint import MODEL, objective_of
from cryovae.cli.geometry import Adjusted, adjusted_table
from cryovae.config import RunConfig, as_plain, override, preset, read_config, save_config
from cryovae.errors import InputError
from cryovae.io.atomic import write_text
from cryovae.io.star.loading import checked_sizes
from cryovae.io.star.tomograms import Entry, TomogramTable, named_file, read_tomograms
from cryovae.tomogram import TiltGeometry
from cryovae.workflows.run_folder import checksum, read_record, unchanged
from cryovae.workflows.table import MODEL_FOLDER, row_state

FOLDER, PLAN, CONFIG, TRUTH = "batch", "batch.json", "config.toml", "crvTruth"
# What decides a model; a restoration depends on its own section and on the model.
TRAINED_BY = ("ladder", "objective", "training")


@dataclass(frozen=True)
class Batch:
    """How the rows of a table are read, and by what: all but the settings of the networks, which are in config.toml.

    table: absolute. tilt_range: degrees, of rows without tilts. voxel_size: angstrom, over the headers. ctf: divide the contrast
    transfer out. adjusted: options of geometry. model: one that is there already. masks: make those of rows without one.
    """

    table: str
    tilt_range: tuple[float, float] | None = None
    voxel_size: float | None = None
    ctf: bool = False
    adjusted: dict[str, Any] = field(default_factory=dict)
    unrotated: bool | None = None
    model: str | None = None
    masks: bool = False
    device: str = "auto"
    threads: int | None = None
    suffix: str = ".mrc"


@dataclass(frozen=True)
class Opened:
    """A batch in its folder, with the table as it is now: rows that can be read, and by name why others cannot."""

    out: Path
    batch: Batch
    config: RunConfig
    table: TomogramTable
    problems: dict[str, str]

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Rows whose files are there and can be opened; what is in them is not known yet."""
        return tuple(self._masked(e) for e in self.table.entries if e.name not in self.problems)

    def entry(self, name: str) -> Entry:
        """A row by its name. InputError, which says what is wrong, if it cannot be read."""
        if name in self.problems:
            raise InputError(self.problems[name])
        return next(entry for entry in self.entries if entry.name == name)

    def named(self, row: str) -> str:
        """The name of a row, given its name or its number from 1. InputError if there is no such row."""
        names = self.names
        if row in names:
            return row
        if row.isdigit() and 0 < int(row) <= len(names):
            return names[int(row) - 1]
        raise InputError(f"{self.batch.table} has no row {row}: expected one of {', '.join(names[:5])}, or 1 to {len(names)}")

    @property
    def names(self) -> list[str]:
        """Of all rows, in the order of the table, as far as those that cannot be read have their own."""
        rows = {entry.name: entry.row for entry in self.table.entries}
        numbered = iter(sorted(set(range(1, len(self.table.rows) + 1)) - set(rows.values())))
        rows |= {name: next(numbered, 0) for name in self.problems if name not in rows}
        return sorted(rows, key=lambda name: rows[name])

    @property
    def model(self) -> Path:
        """The model, or the folder of its run."""
        return Path(self.batch.model) if self.batch.model else self.out / MODEL_FOLDER

    @cached_property
    def mark(self) -> str:
        """The checksum of the model."""
        return checksum(self.model / MODEL if self.model.is_dir() else self.model)

    def truth(self, entry: Entry) -> Path | None:
        """What a simulated tomogram is scored against: the table's column crvTruth."""
        named = self.table.rows.text(TRUTH, entry.row - 1)
        return None if named is None else named_file(self.table.path, named)

    def mask(self, entry: Entry) -> Path:
        """Where a mask that is made lies."""
        return self.out / entry.name / f"{entry.name}_mask.mrc"

    def scored(self, entry: Entry) -> bool:
        """Whether there is something to evaluate it by: halves, or a truth."""
        return entry.halves is not None or self.truth(entry) is not None

    def _masked(self, entry: Entry) -> Entry:
        made = self.batch.masks and entry.mask is None and self.mask(entry).exists()
        return replace(entry, mask=self.mask(entry)) if made else entry


def write_batch(out: Path, batch: Batch, config: RunConfig, **about: Any) -> None:
    """Write batch.json, with what the workflow is to know ``about`` it, and config.toml."""
    save_config(out / FOLDER / CONFIG, config)
    write_text(out / FOLDER / PLAN, json.dumps({"batch": asdict(batch), **about}, indent=2) + "\n")


def open_batch(out: Path) -> Opened:
    """The batch of a folder. InputError if there is none, or its table can no longer be read."""
    plan = read_record(out / FOLDER / PLAN)
    if not plan:
        raise InputError(f"{out} holds no batch: begin one with cryovae batch tomograms.star -o {out}")
    known = plan["batch"]
    size = known["tilt_range"]
    batch = Batch(**known | {"tilt_range": None if size is None else (size[0], size[1])})
    config = read_config(out / FOLDER / CONFIG, preset("default"))
    if batch.model:
        config = override(config, {"objective.name": objective_of(batch.model)})
    return opened(out, batch, config)


def opened(out: Path, batch: Batch, config: RunConfig) -> Opened:
    """A batch with its table read. InputError if that is no table of tomograms; rows that cannot be used are set aside."""
    problems: dict[str, str] = {}
    tilts = None if batch.tilt_range is None else TiltGeometry.from_range(*batch.tilt_range)
    table = read_tomograms(Path(batch.table), tilts, problems)
    kept = []
    for entry in table.entries:
        entry = entry if batch.ctf else replace(entry, optics=None)
        try:
            if batch.ctf and entry.optics is None:
                raise InputError(f"{batch.table} row {entry.row} tells no defocus: add the column rlnDefocus, or leave out --ctf")
            if entry.name in (MODEL_FOLDER, FOLDER):
                raise InputError(f"{batch.table} row {entry.row} is called {entry.name}, as a folder of ours is: rename it")
            one = replace(table, entries=(entry,))
            checked_sizes(one, batch.voxel_size)
            entry = adjusted_table(one, Adjusted(**batch.adjusted), None, None, batch.unrotated).entries[0]
        except (InputError, OSError) as error:
            problems[entry.name] = str(error)
        kept.append(entry)
    return Opened(out.resolve(), batch, config, replace(table, entries=tuple(kept)), problems)


def model_state(batch: Opened) -> str:
    """'done', 'missing', or 'stale': trained with other settings, or on files that have changed.

    Rows that were added, mended or removed since do not make a model stale: they are restored by the one that is there.
    """
    if batch.batch.model:
        return "done"
    record = read_record(batch.model / "run.json")
    if not record:
        return "missing"
    if not fits(batch, record):
        return "stale"
    return "done" if record.get("status") == "done" and (batch.model / MODEL).exists() else "missing"


def fits(batch: Opened, record: dict[str, Any]) -> bool:
    """Whether a record of training is of the settings and of the files that are wanted now."""
    wanted = json.loads(json.dumps(as_plain(batch.config)))
    same = all(record.get("config", {}).get(section) == wanted[section] for section in TRAINED_BY)
    names = set(batch.names)
    used = {role: about for role, about in record.get("inputs", {}).items() if role.rpartition("_")[0] in names}
    return same and unchanged(used)


def state_of(batch: Opened, entry: Entry) -> str:
    """Of a row, given a model that is done: 'done', 'missing' or 'stale'."""
    return row_state(batch.out / entry.name, entry, batch.config, batch.mark, batch.batch.suffix)


def evaluated(batch: Opened, entry: Entry) -> bool:
    """Whether its scores are there, and not older than what they score."""
    scores, mean = batch.out / entry.name / "evaluation.json", batch.out / entry.name / f"{entry.name}_mean{batch.batch.suffix}"
    truth = batch.truth(entry)
    if not scores.exists() or not mean.exists():
        return False
    times = [path.stat().st_mtime_ns for path in (mean, truth) if path is not None and path.exists()]
    return scores.stat().st_mtime_ns >= max(times)


def refresh(batch: Opened) -> list[str]:
    """Set the marks of the steps that are done, remove all others; returns what is to be done, for people to read."""
    marks = batch.out / FOLDER / "marks"
    marks.mkdir(parents=True, exist_ok=True)
    wanted = dict(_steps(batch))
    for path in marks.iterdir():
        if not wanted.get(path.name):
            path.unlink()
    for name, done in wanted.items():
        if done:
            (marks / name).touch()
    return [name for name, done in wanted.items() if not done]


def _steps(batch: Opened) -> Iterator[tuple[str, bool]]:
    """The mark of every step, and whether it is done. What stands on a step that is not done is not done either."""
    if batch.batch.masks:
        yield from ((f"{e.name}.masked", e.mask is not None) for e in batch.entries)
    trained = model_state(batch) == "done"
    if not batch.batch.model:
        yield f"{MODEL_FOLDER}.trained", trained
    for entry in batch.entries:
        restored = trained and state_of(batch, entry) == "done"
        yield f"{entry.name}.restored", restored
        if batch.scored(entry):
            yield f"{entry.name}.evaluated", restored and evaluated(batch, entry)
