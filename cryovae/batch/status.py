"""How far a batch is, read from its run folders: done, running, failed and why, times, figures."""

from __future__ import annotations

import csv
import io
import os
import platform
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryovae.batch.plan import FOLDER, Opened, model_state, state_of
from cryovae.io.atomic import write_text
from cryovae.workflows.progress import clock
from cryovae.workflows.run_folder import read_record
from cryovae.workflows.table import MODEL_FOLDER

# A run on another machine that has logged nothing for so many seconds is taken for dead, if no queue can be asked.
SILENT = 1800.0
# Figures of a row and how they are headed; a row has those that its data allow.
FIGURES = {
    "hidden_correlation": "hidden data foretold, correlation",
    "chi2": "chi^2 of hidden data",
    "resolution": "halves agree to, A",
    "wedge": "truth, wedge",
    "measured": "truth, measured",
}


@dataclass(frozen=True)
class Status:
    """One step: 'done', 'running', 'failed', 'interrupted', 'broken off', 'stale' or 'waiting'.

    why: of what is not done. seconds: that it took, or has taken so far, or None. figures: by the keys of FIGURES.
    """

    name: str
    state: str
    why: str = ""
    seconds: float | None = None
    figures: dict[str, float] = field(default_factory=dict)


def statuses(batch: Opened) -> list[Status]:
    """The model's, unless it was given, then that of each row of the table in its order."""
    trained = model_state(batch)
    found = [] if batch.batch.model else [_judged(batch.model, MODEL_FOLDER, trained)]
    entries = {entry.name: entry for entry in batch.entries}
    for name in batch.names:
        where = batch.out / name
        if name in batch.problems:
            found.append(Status(name, "failed", batch.problems[name]))
        else:
            state = state_of(batch, entries[name]) if trained == "done" else "missing"
            found.append(_judged(where, name, state))
    return found


def _judged(where: Path, name: str, state: str) -> Status:
    """What a run's record says, given what its results say: done, missing or stale."""
    record = read_record(where / "run.json")
    status, seconds = record.get("status"), record.get("seconds")
    if state == "done":
        return Status(name, "done", "", seconds, figures_of(where, record))
    if status == "running":
        if alive(record, where):
            return Status(name, "running", _last_line(where / "run.log"), _since(record))
        return Status(name, "broken off", f"no longer there; last: {_last_line(where / 'run.log')}", None)
    if status in ("failed", "stopped"):
        return Status(name, "failed" if status == "failed" else "interrupted", str(record.get("error", "")), seconds)
    return Status(name, "stale" if record else "waiting", "of another model, other settings or other data" if record else "")


def alive(record: dict[str, Any], where: Path) -> bool:
    """Whether the process of a record still runs, as far as can be known from here."""
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
    return bool(written) and time.time() - max(written) < SILENT


def figures_of(where: Path, record: dict[str, Any]) -> dict[str, float]:
    """What is known of a restoration, by the keys of FIGURES."""
    held_out = (record.get("restoration") or {}).get("held_out") or {}
    scores = read_record(where / "evaluation.json")
    found = {"hidden_correlation": held_out.get("correlation"), "chi2": held_out.get("chi2_band")}
    for row in scores.get("halves", []):
        if row.get("name") == "restored":
            found["resolution"] = row["measured"]["resolution"].get("0.143")
    for row in scores.get("against_truth", []):
        if row.get("name") == "restored":
            found |= {part: row[part]["band"] for part in ("wedge", "measured")}
    return {name: float(value) for name, value in found.items() if value is not None}


def _since(record: dict[str, Any]) -> float | None:
    from datetime import UTC, datetime

    try:
        return (datetime.now(UTC) - datetime.fromisoformat(record["started"])).total_seconds()
    except (KeyError, ValueError):
        return None


def _last_line(path: Path) -> str:
    """The end of a log without its date."""
    if not path.exists():
        return "nothing"
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 2000))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1].split(" ", 2)[-1] if lines else "nothing"


def table_of(found: list[Status]) -> str:
    """The statuses as lines of text in columns, and a line that counts them."""
    known = [name for name in FIGURES if any(name in status.figures for status in found)]
    head = ["name", "state", "time", *(FIGURES[name] for name in known), "why"]
    rows = [head, *([s.name, s.state, _time(s), *(_shown(s, name) for name in known), s.why] for s in found)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head) - 1)]
    lines = ["  ".join([*(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)), row[-1]]) for row in rows]
    return "\n".join([*(line.rstrip() for line in lines), counted(found)])


def counted(found: list[Status]) -> str:
    """How many tomograms are in which state."""
    states = Counter(status.state for status in found if status.name != MODEL_FOLDER)
    return f"{sum(states.values())} tomograms: " + ", ".join(f"{n} {state}" for state, n in states.items())


def _time(status: Status) -> str:
    return "" if status.seconds is None else clock(status.seconds)


def _shown(status: Status, name: str) -> str:
    return f"{status.figures[name]:.3g}" if name in status.figures else ""


def write_csv(path: Path, found: list[Status]) -> None:
    """The statuses as a table for programs: seconds, figures by their keys."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", "state", "seconds", *FIGURES, "why"])
    for s in found:
        writer.writerow(
            [s.name, s.state, "" if s.seconds is None else s.seconds, *(s.figures.get(n, "") for n in FIGURES), s.why]
        )
    write_text(path, text.getvalue())


def log_of(batch: Opened, name: str, kind: str) -> Path:
    """Where a step's output lies."""
    return batch.out / FOLDER / "logs" / f"{name}.{kind}.log"
