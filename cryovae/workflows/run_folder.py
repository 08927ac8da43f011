"""The files of one run beside its results: run.json, config.toml, metrics.csv, run.log, pictures, the model."""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cryovae import __version__, distributed
from cryovae.aliases import current_columns
from cryovae.errors import InputError
from cryovae.findings import Finding
from cryovae.io import copick
from cryovae.io.atomic import whole_file, write_text
from cryovae.io.claim import HeldByOther, InUse, claimed
from cryovae.io.files import check_result_name
from cryovae.io.names import checked_name, in_one_line
from cryovae.io.record_file import checked_record, read_json
from cryovae.phases import Phases

log = logging.getLogger("cryovae")
CLAIM = ".run.claim"
JOB_VARIABLES = ("SLURM_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_CPUS_PER_TASK", "SLURM_RESTART_COUNT", "CUDA_VISIBLE_DEVICES")


class RunFolder:
    """A folder for results, and the record of the run that made them.

    If the folder has the record of another tomogram, the files of this record begin with the name of the tomogram. Only rank 0
    writes into the folder; each other rank has a temporary folder, which is removed when it ends.

    Attributes:
        folder: where the files go.
        name: of the tomogram, the beginning of the names of its results.
        suffix: of the volumes, one of ``io.files.FORMATS``.
        record: the content of run.json.
        phase: how long the phases of this run took.
    """

    def __init__(self, folder: Path, name: str, suffix: str = ".mrc") -> None:
        self.folder, self.name, self.suffix = folder, checked_name(name, f"a tomogram for {folder}"), suffix
        check_result_name(name, suffix)
        self._shared, self._is_new = folder, not folder.exists()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder} cannot be made ({error.strerror}): give another folder with -o") from error
        self.prefix = distributed.broadcast(self._prefix())
        if distributed.rank():
            self._own = TemporaryDirectory(prefix="cryovae_")
            self.folder = Path(self._own.name)
        self.record: dict[str, Any] = {}
        self.phase = Phases()
        self._began = time.time()

    def _prefix(self) -> str:
        """The beginning of the names of the files of the record: empty, or the name if run.json is of another tomogram."""
        first = self._shared / "run.json"
        if first.exists():
            return "" if _name_of(first) == self.name else f"{self.name}_"
        # The run of another tomogram that took the first record may have ended before it wrote one.
        own = self._shared / f"{self.name}_run.json"
        return f"{self.name}_" if own.exists() and _name_of(own) == self.name else ""

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Keep other runs from writing the same files until the block ends. Sets ``prefix`` again.

        Raises:
            InUse: another run writes them already.
        """
        refusal = ""
        with ExitStack() as stack:
            if not distributed.rank():
                try:
                    self.prefix = stack.enter_context(self._claim())
                except InUse as error:
                    refusal = str(error)
            self.prefix, refusal = distributed.broadcast((self.prefix, refusal))
            if refusal:
                raise InUse(refusal)
            try:
                yield
            finally:
                stack.close()
                if self._is_new and not distributed.rank():
                    # A run that was refused before it wrote anything leaves no empty folder.
                    with suppress(OSError):
                        self._shared.rmdir()

    @contextmanager
    def _claim(self) -> Iterator[str]:
        """Claim the files of the record, and yield their prefix. Two tomograms may begin in one folder at the same moment."""
        prefix = f"{self.name}_"
        # The names of the results begin with the name of the tomogram, whatever the prefix of the record is.
        with claimed(self._shared / f".{prefix}run.claim", self.name), ExitStack() as stack:
            with suppress(HeldByOther):
                stack.enter_context(claimed(self._shared / CLAIM, self.name))
                prefix = self._prefix()
                if prefix:
                    stack.close()
            yield prefix

    def path(self, name: str) -> Path:
        """The path of a file of the record."""
        return self.folder / f"{self.prefix}{name}"

    def saved(self, name: str) -> Path:
        """The path of a file of the record in the folder that all ranks share."""
        return self._shared / f"{self.prefix}{name}"

    def result(self, kind: str) -> Path:
        """The path of a restored volume, e.g. ts_01_mean.mrc or ts_01_mean.zarr."""
        return self.folder / f"{self.name}_{kind}{self.suffix}"

    def hand_over(self, root: Path) -> None:
        """Put the results into the copick tree in a folder if that is their format; of several ranks, the first does."""
        if self.suffix == copick.SUFFIX and not distributed.rank():
            copick.add_results(root, self.name, self.folder)

    def begin(self, command: str, inputs: Mapping[str, Any], config: dict[str, Any], seed: int) -> None:
        """Write run.json with status 'running', and start the log; ``inputs`` is the result of ``summed``."""
        handler = logging.FileHandler(self.path("run.log"), encoding="utf-8", errors="backslashreplace")
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        self.record = {
            "name": self.name,
            "status": "running",
            "command": command,
            "arguments": sys.argv[1:],
            "directory": str(Path.cwd()),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": _versions(),
            "process": process(),
            "seed": seed,
            "inputs": dict(inputs),
            "config": config,
        }
        self.save()

    def save(self, **figures: Any) -> None:
        """Add figures to run.json."""
        self.record |= figures
        write_text(self.path("run.json"), json.dumps(self.record, indent=2) + "\n")

    def tell(self, notes: Sequence[str]) -> None:
        """Report what was decided on reading the inputs: on stderr, in the log, and in the record."""
        for note in map(in_one_line, notes):
            print(note, file=sys.stderr)
            log.info("%s", note)
        if notes:
            self.save(notes=list(notes))

    def keep_findings(self, findings: Sequence[Finding], force: bool) -> None:
        """Report what the checks of the input found: on stderr, in the log, and in the record."""
        for finding in findings:
            if not distributed.rank():
                print(finding.line, file=sys.stderr)
            log.info("%s", finding.line)
        self.save(findings=[finding.as_plain() for finding in findings], force=force)

    def end(self, status: str, **figures: Any) -> None:
        """Record how the run ended, and how long it took."""
        spent = {"seconds_by_phase": self.phase.rounded()} if self.phase.seconds else {}
        self.save(status=status, seconds=round(time.time() - self._began, 1), **spent, **figures)
        for handler in list(log.handlers):
            if isinstance(handler, logging.FileHandler):
                handler.close()
                log.removeHandler(handler)


def folder_name(folder: Path) -> str:
    """The name of a folder, as the name of the run in it; also of ``.``, which has none of its own."""
    return folder.resolve().name or "run"


@contextmanager
def noted(folder: RunFolder) -> Iterator[None]:
    """Record in run.json how the run ended, also if it failed."""
    try:
        yield
    except BaseException as error:
        stopped = ("Interrupted", "Terminated", "StoppedMidStep", "KeyboardInterrupt", "BrokenPipeError")
        folder.end("stopped" if type(error).__name__ in stopped else "failed", error=str(error) or type(error).__name__)
        raise
    if folder.phase.seconds:
        line = f"time: {folder.phase.sentence()}"
        log.info("%s", line)
        if not distributed.rank():
            print(line, file=sys.stderr)
    folder.end("done")


class Metrics:
    """metrics.csv, with a row for each step that is reported; on resuming, rows after the saved step are dropped."""

    def __init__(self, path: Path, columns: list[str], step: int) -> None:
        self.path, self.columns = path, columns
        kept = [row for row in read_metrics(path) if step and int(row["step"]) <= step]
        with whole_file(path) as beside, beside.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(kept)
        self._file = path.open("a", newline="")
        self._writer = csv.DictWriter(self._file, columns, restval="", extrasaction="ignore")

    def add(self, row: dict[str, float]) -> None:
        """Append a row, and flush the file."""
        self._writer.writerow({name: f"{value:.6g}" for name, value in row.items()})
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_metrics(path: Path) -> list[dict[str, str]]:
    """The rows of a metrics.csv; none if there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        reader.fieldnames = current_columns(list(reader.fieldnames or []))
        return list(reader)


def metrics_of(record: Mapping[str, Any], own: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv of the run that trained the model: ``own``, or that of the folder of ``restore --model``."""
    if not record.get("model"):
        return read_metrics(own)
    model = Path(record["model"])
    return read_metrics((model if model.is_dir() else model.parent) / "metrics.csv")


def summed(inputs: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """Path, checksum, size and time of the input files by their role."""
    return {role: {"path": str(path), "sha256": checksum(path), **stamp(path)} for role, path in inputs.items()}


def checksum(path: Path) -> str:
    """SHA-256 of a file; of a folder, that of the sorted names and checksums of its files."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        lines = "".join(f"{file.relative_to(path).as_posix()} {checksum(file)}\n" for file in files)
        return hashlib.sha256(lines.encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stamp(path: Path) -> dict[str, int]:
    """Size in bytes and last change in ns of a file, or of a folder. While both stay, the checksum need not be computed again."""
    stats = [file.stat() for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()]
    return {"bytes": sum(s.st_size for s in stats), "changed": max((s.st_mtime_ns for s in stats), default=0)}


def unchanged(inputs: Mapping[str, Any]) -> bool:
    """Whether the input files of a record are unchanged: by size and time, and if these differ, by checksum."""
    return all(_same(about) for about in inputs.values())


def _same(about: Mapping[str, Any]) -> bool:
    path = Path(about["path"])
    return path.exists() and same_file(about, path)


def same_file(about: Mapping[str, Any], path: Path) -> bool:
    """Whether a file has the content that a record names: by size and time, and if these differ, by checksum."""
    now = stamp(path)
    return all(about.get(key) == value for key, value in now.items()) or checksum(path) == about.get("sha256")


def read_record(path: Path) -> dict[str, Any]:
    """A run.json of any version by the names of today; empty if there is none. InputError if it is damaged."""
    content = read_json(path)
    return {} if content is None else checked_record(path, content)


def process() -> dict[str, Any]:
    """Host and process of a run, and its job on a cluster."""
    job = {name.lower(): os.environ[name] for name in JOB_VARIABLES if name in os.environ}
    return {"host": platform.node(), "pid": os.getpid(), **job}


def _name_of(path: Path) -> str | None:
    name: str | None = read_record(path).get("name")
    return name


def _versions() -> dict[str, str]:
    import mrcfile
    import numpy
    import torch

    return {
        "cryovae": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "mrcfile": mrcfile.__version__,
    }
