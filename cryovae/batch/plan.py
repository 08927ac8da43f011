"""The plan of a batch: its table and settings, and by its run folders which of its steps are done."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from cryovae.checkpoint import MODEL, objective_of
from cryovae.config import RunConfig, as_plain, override, preset, read_config, save_config
from cryovae.errors import InputError
from cryovae.io.atomic import write_text
from cryovae.io.files import check_result_name
from cryovae.io.record_file import read_json
from cryovae.io.star.loading import checked_sizes
from cryovae.io.star.tomograms import Entry, Problems, TomogramTable, named_file, read_tomograms
from cryovae.ranges import shown
from cryovae.tomogram import TiltGeometry
from cryovae.workflows.geometry import TiltAdjustment, adjusted_table
from cryovae.workflows.run_folder import checksum, read_record, unchanged
from cryovae.workflows.start import NONE
from cryovae.workflows.table import MODEL_FOLDER, row_state

FOLDER, PLAN, CONFIG, TRUTH = "batch", "batch.json", "config.toml", "crvTruth"
# Entry in the record of a model that restores without training: the settings of the restoration that it changes.
AT_ONCE = "at_once"
SUMMARY, SUMMARY_CSV = "summary.html", "summary.csv"
# The settings that a model depends on; a restoration depends on its own section and on the model.
TRAINED_BY = ("ladder", "objective", "training")


@dataclass(frozen=True)
class Batch:
    """How the rows of a table are read and run: everything but the settings of the networks, which are in config.toml.

    Attributes:
        table: absolute path of the table.
        tilt_range: lowest and highest tilt in degrees of rows without tilts, or None.
        voxel_size: in angstrom, instead of those of the headers, or None.
        ctf: divide the contrast transfer out.
        adjusted: options of the geometry by name.
        unrotated: whether the beam is along the middle axis of the files; None to detect it.
        model: a trained model or its run folder, or None to train one.
        masks: make the masks of rows without one.
        device: 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'.
        threads: CPU threads of a job, or None.
        suffix: of the restored volumes, one of ``io.files.FORMATS``.
        force: whether refusals of the checks of the inputs pass.
        start: what the model begins with: 'base', 'none' or the path of a model; None for the default.
        trains: whether a model that is named as ``start`` is trained further in any case.
        sampler_asked: whether the user named the sampler.
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
    force: bool = False
    start: str | None = None
    trains: bool = False
    sampler_asked: bool = False


@dataclass(frozen=True)
class Opened:
    """A batch in its folder, with the table as it is now.

    Attributes:
        out: the folder of the batch.
        batch: how rows are read and run.
        config: settings of the networks.
        table: the rows that can be used; their voxels are not checked yet.
        unusable: row, from 1, to the name and the reason of each row that cannot be used. No two rows have one name.
    """

    out: Path
    batch: Batch
    config: RunConfig
    table: TomogramTable
    unusable: Problems

    @property
    def problems(self) -> dict[str, str]:
        """Name to reason of the rows that cannot be used."""
        return {name: why for _, (name, why) in sorted(self.unusable.items())}

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The rows whose files can be opened; their voxels are not checked yet."""
        return tuple(self._masked(entry) for entry in self.table.entries)

    def entry(self, name: str) -> Entry:
        """A row by its name. InputError with the reason if it cannot be read."""
        if name in self.problems:
            raise InputError(self.problems[name])
        return next(entry for entry in self.entries if entry.name == name)

    def named(self, row: str) -> str:
        """The name of a row. row: its name, or its number from 1. InputError if there is no such row, or it may be two."""
        numbered = self.rows.get(int(row)) if row.isascii() and row.isdigit() else None
        if row not in self.names:
            return self.numbered(int(row) if row.isascii() and row.isdigit() else row)
        if numbered not in (None, row):
            raise InputError(f"--row {row} may be the tomogram {row}, or row {row}, {numbered}: give the row with --number")
        return row

    def numbered(self, number: int | str) -> str:
        """The name of the row of a number, from 1. InputError if there is none."""
        name = self.rows.get(number) if isinstance(number, int) else None
        if name is None:
            names = self.names
            raise InputError(
                f"{self.batch.table} has no row {number}: expected one of {', '.join(names[:5])}, or 1 to {len(names)}"
            )
        return name

    @property
    def rows(self) -> dict[int, str]:
        """The names by row, from 1. An unusable row without a name of its own is called row_3, for example."""
        rows = {entry.row: entry.name for entry in self.table.entries} | {row: name for row, (name, _) in self.unusable.items()}
        return dict(sorted(rows.items()))

    @property
    def names(self) -> list[str]:
        """The names of all rows in the order of the table."""
        return list(self.rows.values())

    @property
    def model(self) -> Path:
        """The model, or its run folder."""
        return Path(self.batch.model) if self.batch.model else self.out / MODEL_FOLDER

    @cached_property
    def mark(self) -> str:
        """The checksum of the model."""
        return checksum(self.model / MODEL if self.model.is_dir() else self.model)

    def truth(self, entry: Entry) -> Path | None:
        """The true density of a simulated tomogram, by the column crvTruth of the table, or None."""
        named = self.table.rows.text(TRUTH, entry.row - 1)
        return None if named is None else named_file(self.table.path, named)

    def mask(self, entry: Entry) -> Path:
        """The path of a mask that the batch makes."""
        return self.out / entry.name / f"{entry.name}_mask.mrc"

    def scored(self, entry: Entry) -> bool:
        """Whether a row can be scored: by halves, or by a truth."""
        return entry.halves is not None or self.truth(entry) is not None

    def _masked(self, entry: Entry) -> Entry:
        has_mask = self.batch.masks and entry.mask is None and self.mask(entry).exists()
        return replace(entry, mask=self.mask(entry)) if has_mask else entry


def write_batch(out: Path, batch: Batch, config: RunConfig, **about: Any) -> None:
    """Write batch.json and config.toml. about: further entries of batch.json, which the workflow reads."""
    save_config(out / FOLDER / CONFIG, config)
    write_text(out / FOLDER / PLAN, json.dumps({"batch": asdict(batch), **about}, indent=2) + "\n")


def open_batch(out: Path) -> Opened:
    """Open the batch of a folder. InputError if there is none, or its table can no longer be read."""
    plan = read_json(out / FOLDER / PLAN)
    if not plan:
        raise InputError(f"{out} holds no batch: begin one with cryovae batch tomograms.star -o {out}")
    try:
        known = plan["batch"]
        size = known["tilt_range"]
        batch = Batch(**known | {"tilt_range": None if size is None else (size[0], size[1])})
    except (LookupError, TypeError, ValueError) as error:
        raise InputError(f"{out / FOLDER / PLAN} is damaged, {shown(str(error))} found: begin the batch anew") from error
    config = read_config(out / FOLDER / CONFIG, preset("default"))
    if batch.model:
        config = override(config, {"objective.name": objective_of(batch.model)})
    if at_once := read_record(out / MODEL_FOLDER / "run.json").get(AT_ONCE) if not batch.model else None:
        config = override(config, at_once)
    return opened(out, batch, config)


def opened(out: Path, batch: Batch, config: RunConfig) -> Opened:
    """Read the table of a batch; rows that cannot be used become ``problems``. InputError if it is no table of tomograms."""
    problems: Problems = {}
    tilts = None if batch.tilt_range is None else TiltGeometry.from_range(*batch.tilt_range)
    table = read_tomograms(Path(batch.table), tilts, problems)
    kept: list[Entry] = []
    taken = {name.casefold() for name in (MODEL_FOLDER, FOLDER, SUMMARY, SUMMARY_CSV, table.path.name)}
    for entry in table.entries:
        entry = entry if batch.ctf else replace(entry, optics=None)
        try:
            if batch.ctf and entry.optics is None:
                raise InputError(f"{batch.table} row {entry.row} tells no defocus: add the column rlnDefocus, or leave out --ctf")
            if entry.name.casefold() in taken:
                problems[entry.row] = (
                    "",
                    f"{batch.table} row {entry.row} is called {entry.name}, as a file of ours is: rename it",
                )
                continue
            check_result_name(entry.name, batch.suffix)
            one = replace(table, entries=(entry,))
            checked_sizes(one, batch.voxel_size)
            entry = adjusted_table(one, TiltAdjustment(**batch.adjusted), batch.unrotated).entries[0]
        except (InputError, OSError) as error:
            problems[entry.row] = (entry.name, str(error))
        else:
            kept.append(entry)
    unusable = _with_names(problems, {entry.name for entry in kept} | taken)
    return Opened(out.resolve(), batch, config, replace(table, entries=tuple(kept)), unusable)


def _with_names(problems: Problems, taken: set[str]) -> Problems:
    """The unusable rows, each with a name that no other row has, as their records need folders of their own."""
    named: Problems = {}
    for row, (name, why) in problems.items():
        while not name or name in taken or name.casefold() in taken:
            name = f"row_{row}" if not name or not name.startswith(f"row_{row}") else f"{name}_"
        taken = taken | {name}
        named[row] = (name, why)
    return named


def model_state(batch: Opened) -> str:
    """The state of the model: 'done', 'missing', or 'stale', i.e. trained with other settings or on files that have changed.

    Rows that were added, repaired or removed since do not make a model stale: the existing model restores them.
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
    """Whether a model was trained with the settings and on the files of the batch. record: run.json of the training."""
    wanted = json.loads(json.dumps(as_plain(batch.config)))
    same = all(record.get("config", {}).get(section) == wanted[section] for section in TRAINED_BY)
    names = set(batch.names)
    used = {role: about for role, about in record.get("inputs", {}).items() if role.rpartition("_")[0] in names}
    return same and _begins_so(batch.batch, record) and unchanged(used)


def _begins_so(batch: Batch, record: dict[str, Any]) -> bool:
    """Whether a model began with what the batch says; without --from any beginning is that of the default."""
    began, at_once = record.get("start"), AT_ONCE in record
    if batch.start is None:
        return not at_once
    if began is None or batch.start == NONE:
        return began is None and batch.start == NONE
    return bool(began["name"] == batch.start) and not (at_once and batch.trains)


def state_of(batch: Opened, entry: Entry) -> str:
    """The state of a row whose model is done: 'done', 'missing' or 'stale'."""
    return row_state(batch.out / entry.name, entry, batch.config, batch.mark, batch.batch.suffix, batch.batch.voxel_size)


def evaluated(batch: Opened, entry: Entry) -> bool:
    """Whether the scores of a row exist and are newer than its restored mean and its truth."""
    scores, mean = batch.out / entry.name / "evaluation.json", batch.out / entry.name / f"{entry.name}_mean{batch.batch.suffix}"
    truth = batch.truth(entry)
    if not scores.exists() or not mean.exists():
        return False
    times = [path.stat().st_mtime_ns for path in (mean, truth) if path is not None and path.exists()]
    return scores.stat().st_mtime_ns >= max(times)


def refresh(batch: Opened) -> list[str]:
    """Write the marks of the steps that are done, remove all others, and return the names of the steps to do."""
    marks = batch.out / FOLDER / "marks"
    marks.mkdir(parents=True, exist_ok=True)
    steps = list(_steps(batch))
    done = {step.mark for step in steps if step.done}
    for path in marks.iterdir():
        if path.name not in done:
            path.unlink()
    for mark in done:
        (marks / mark).touch()
    return [f"{step.name}.{step.kind}" for step in steps if not step.done]


@dataclass(frozen=True)
class Step:
    """A step of the workflow.

    Attributes:
        kind: its state when it is done: 'masked', 'trained', 'restored' or 'evaluated'.
        row: of the table, from 1; None for the model.
        name: of the tomogram, or of the model's folder.
        done: whether it is done; it is not if one that it depends on is not.
    """

    kind: str
    row: int | None
    name: str
    done: bool

    @property
    def mark(self) -> str:
        """The file name of its mark. It has the number of the row, because Snakemake would read braces in a name as wildcards."""
        return f"{MODEL_FOLDER if self.row is None else self.row}.{self.kind}"


def _steps(batch: Opened) -> Iterator[Step]:
    """Every step, and whether it is done."""
    if batch.batch.masks:
        yield from (Step("masked", e.row, e.name, e.mask is not None) for e in batch.entries)
    trained = model_state(batch) == "done"
    if not batch.batch.model:
        yield Step("trained", None, MODEL_FOLDER, trained)
    for entry in batch.entries:
        restored = trained and state_of(batch, entry) == "done"
        yield Step("restored", entry.row, entry.name, restored)
        if batch.scored(entry):
            yield Step("evaluated", entry.row, entry.name, restored and evaluated(batch, entry))
