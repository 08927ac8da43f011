"""The state of a batch, read from its run folders: done, running, failed and why, times, figures."""

from __future__ import annotations

import csv
import io
import os
import platform
import subprocess
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryovae.batch.plan import Opened, model_state, state_of
from cryovae.errors import InputError
from cryovae.io.atomic import write_text
from cryovae.io.names import in_one_line
from cryovae.io.record_file import read_json
from cryovae.progress.display import clock_time
from cryovae.report.headline import Headline
from cryovae.workflows.run_folder import read_record
from cryovae.workflows.table import MODEL_FOLDER

# A run on another machine counts as dead if it has logged nothing for so many seconds and no queue knows it.
SILENT_SECONDS = 1800.0
# Figures of a row and their column headings; a row has those that its data allow.
FIGURES = {
    "hidden_correlation": "held-out data, correlation",
    "highest": "highest that the noise allows",
    "clipping": "low-pass and clipping",
    "chi2": "chi^2 of held-out data",
    "ratio": "rms error / std, held-out data",
    "resolution": "halves agree to, A",
    "wedge": "truth, wedge",
    "measured": "truth, measured",
}


@dataclass(frozen=True)
class Status:
    """The state of one step.

    Attributes:
        name: of the tomogram, or of the model's folder.
        state: 'done', 'running', 'failed', 'interrupted', 'broken off', 'stale' or 'waiting'.
        why: the reason why it is not done; empty if it is done.
        seconds: how long it took, or has taken so far, or None.
        figures: key of FIGURES to value.
        caveats: what must be said with the figures.
    """

    name: str
    state: str
    why: str = ""
    seconds: float | None = None
    figures: dict[str, float] = field(default_factory=dict)
    caveats: tuple[str, ...] = ()

    @property
    def remarks(self) -> str:
        """Why it is not done, or what must be said with its figures."""
        return " ".join(filter(None, (self.why, *self.caveats)))


def statuses(batch: Opened) -> list[Status]:
    """The state of the model, if the batch trains one, then that of each row of the table in its order."""
    trained = model_state(batch)
    states = [] if batch.batch.model else [_status_of(batch.model, MODEL_FOLDER, trained)]
    entries = {entry.name: entry for entry in batch.entries}
    for name in batch.names:
        where = batch.out / name
        if name in batch.problems:
            states.append(Status(name, "failed", batch.problems[name]))
        else:
            state = state_of(batch, entries[name]) if trained == "done" else "missing"
            states.append(_status_of(where, name, state))
    return states


def _status_of(where: Path, name: str, state: str) -> Status:
    """The status by the record of a run. state: of its results, 'done', 'missing' or 'stale'."""
    try:
        record = read_record(where / "run.json")
    except InputError as error:
        return Status(name, "failed", str(error))
    status, seconds = record.get("status"), record.get("seconds")
    if state == "done":
        caveats = caveats_of(record) if record.get("command") == "restore" else ()
        return Status(name, "done", "", seconds, figures_of(where, record), caveats)
    if status == "running":
        if alive(record, where):
            return Status(name, "running", _last_line(where / "run.log"), _since(record))
        return Status(name, "broken off", f"no longer there; last: {_last_line(where / 'run.log')}", None)
    if status in ("failed", "stopped"):
        return Status(name, "failed" if status == "failed" else "interrupted", str(record.get("error", "")), seconds)
    return Status(name, "stale" if record else "waiting", "of another model, other settings or other data" if record else "")


def alive(record: dict[str, Any], where: Path) -> bool:
    """Whether the process of a run is still running, as far as can be known on this machine.

    Args:
        record: run.json.
        where: the run folder.
    """
    process = record.get("process") or {}
    if process.get("host") == platform.node() and "pid" in process:
        try:
            os.kill(int(process["pid"]), 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True
    if "slurm_job_id" in process:
        try:
            asked = subprocess.run(
                ["squeue", "-h", "-o", "%T", "-j", str(process["slurm_job_id"])], capture_output=True, text=True, check=False
            )
            return "RUNNING" in asked.stdout
        except OSError:
            pass
    written = [path.stat().st_mtime for path in (where / "run.log", where / "run.json") if path.exists()]
    return bool(written) and time.time() - max(written) < SILENT_SECONDS


def figures_of(where: Path, record: dict[str, Any]) -> dict[str, float]:
    """The figures of a restoration: key of FIGURES to value. where: its run folder. record: its run.json."""
    headline = Headline.from_record(record)
    held = headline.held
    figures = {"hidden_correlation": headline.correlation, "clipping": headline.clipping, "ratio": headline.ratio}
    figures |= {} if held is None else {"highest": held.highest_correlation, "chi2": held.chi2_band}
    # If the evaluation is damaged, only its figures are missing.
    with suppress(InputError, LookupError, TypeError, AttributeError):
        figures |= _scores(read_json(where / "evaluation.json") or {})
    return {name: float(value) for name, value in figures.items() if isinstance(value, int | float)}


def caveats_of(record: dict[str, Any]) -> tuple[str, ...]:
    """What must be said with the figures of a restoration: caveats of its correlation, and error bars that are far off."""
    headline = Headline.from_record(record)
    return (*headline.caveats(), *(headline.error_bars() if headline.is_far_off else ()))


def _scores(evaluation: dict[str, Any]) -> dict[str, Any]:
    """The figures in an evaluation.json."""
    figures: dict[str, Any] = {}
    for row in evaluation.get("halves", []):
        if row.get("name") == "restored":
            figures["resolution"] = row["measured"]["resolution"].get("0.143")
    for row in evaluation.get("against_truth", []):
        if row.get("name") == "restored":
            figures |= {part: row[part]["band"] for part in ("wedge", "measured")}
    return figures


def _since(record: dict[str, Any]) -> float | None:
    from datetime import UTC, datetime

    try:
        return (datetime.now(UTC) - datetime.fromisoformat(record["started"])).total_seconds()
    except (KeyError, TypeError, ValueError):
        return None


def _last_line(path: Path) -> str:
    """The last line of a log without its date."""
    if not path.exists():
        return "nothing"
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 2000))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1].split(" ", 2)[-1] if lines else "nothing"


def table_of(states: list[Status]) -> str:
    """The states as text in columns, and a line that counts them."""
    known = [name for name in FIGURES if any(name in status.figures for status in states)]
    head = ["name", "state", "time", *(FIGURES[name] for name in known), "why"]
    rows = [head, *([s.name, s.state, _time(s), *(_shown(s, name) for name in known), in_one_line(s.remarks)] for s in states)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head) - 1)]
    lines = ["  ".join([*(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)), row[-1]]) for row in rows]
    return "\n".join([*(line.rstrip() for line in lines), counted(states)])


def counted(states: list[Status]) -> str:
    """How many tomograms are in which state, as text."""
    counts = Counter(status.state for status in states if status.name != MODEL_FOLDER)
    return f"{sum(counts.values())} tomograms: " + ", ".join(f"{n} {state}" for state, n in counts.items())


def _time(status: Status) -> str:
    return "" if status.seconds is None else clock_time(status.seconds)


def _shown(status: Status, name: str) -> str:
    return f"{status.figures[name]:.3g}" if name in status.figures else ""


def write_csv(path: Path, states: list[Status]) -> None:
    """Write the states as a table for programs, with seconds, the figures by their keys, and remarks."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", "state", "seconds", *FIGURES, "why"])
    for s in states:
        writer.writerow(
            [s.name, s.state, "" if s.seconds is None else s.seconds, *(s.figures.get(n, "") for n in FIGURES), s.remarks]
        )
    write_text(path, text.getvalue())
