"""A run of ``cryovae restore`` as a process beside the window. Neither Qt nor napari is needed here.

Its output goes to ``window.log`` in its folder, so that it can continue after the window is closed.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryovae.napari_plugin.notices import MEMORY
from cryovae.napari_plugin.restore_model import FREQUENT_PROGRESS
from cryovae.workflows.live import LIVE
from cryovae.workflows.run_folder import read_metrics

LINE = re.compile(r"^\d\d:\d\d:\d\d (.+?) (\d+)/(\d+) .*ETA (\S+)$")
ERROR_PREFIX = "cryovae: "
INTERRUPTED = 75
# Bytes of the end of the log that are read at a time.
TAIL = 20_000


@dataclass(frozen=True)
class State:
    """How far a run is.

    Attributes:
        phase: What is being done, e.g. training.
        done: Steps, or patches of work, that are done.
        total: All of them in the phase.
        remaining: Time left of the phase, h:mm:ss.
    """

    phase: str = "starting"
    done: int = 0
    total: int = 0
    remaining: str = ""


class Job:
    """One process.

    Attributes:
        words: Arguments of ``cryovae``.
        folder: Folder of the results.
        stopping: Whether it was asked to stop.
    """

    def __init__(self, words: Sequence[str], folder: Path) -> None:
        self.words, self.folder = list(words), folder
        self.stopping = False
        self._process: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        """Start it. OSError if its folder cannot be written."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._log.open("wb") as log:
            # A new session: Ctrl-C in the terminal of napari must not stop the run.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "cryovae", *self.words],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env=os.environ | FREQUENT_PROGRESS,
            )

    @property
    def _log(self) -> Path:
        return self.folder / "window.log"

    @property
    def ended(self) -> int | None:
        """The exit code, None while it runs."""
        return None if self._process is None else self._process.poll()

    @property
    def running(self) -> bool:
        """Whether it was begun and has not ended."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """Ask it to save its state and end."""
        if self.running and self._process is not None:
            self.stopping = True
            self._process.send_signal(signal.SIGTERM)

    def _lines(self) -> list[str]:
        if not self._log.exists():
            return []
        with self._log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(file.tell() - TAIL, 0))
            return file.read().decode(errors="replace").splitlines()

    def state(self) -> State:
        """How far it is, by the last line of progress."""
        match = next((match for line in reversed(self._lines()) if (match := LINE.match(line))), None)
        return State() if match is None else State(match[1].split(",")[0], int(match[2]), int(match[3]), match[4])

    def losses(self) -> dict[str, list[tuple[int, float]]]:
        """(step, value) of the training loss and of the gain on held-out patches, in nats per coefficient."""
        rows = read_metrics(self.folder / "metrics.csv")
        names = {"completion": "completion", "val_gain": "held-out gain", "loss": "loss"}
        return {
            caption: [(int(row["step"]), float(row[name])) for row in rows if row.get(name)]
            for name, caption in names.items()
            if any(row.get(name) for row in rows)
        }

    def live(self) -> Path | None:
        """The preview that training writes, None if there is none yet."""
        path = self.folder / LIVE
        return path if path.is_file() else None

    def error(self) -> str | None:
        """Why it ended without a result, in one line; None if it did not, or was stopped on purpose."""
        code = self.ended
        if code in (None, 0, INTERRUPTED) or (self.stopping and code in (-signal.SIGTERM, 130)):
            return None
        lines = [line for line in self._lines() if line.strip()]
        message = next((line.removeprefix(ERROR_PREFIX) for line in reversed(lines) if line.startswith(ERROR_PREFIX)), None)
        no_memory = any("MemoryError" in line or "not enough memory" in line for line in lines[-3:])
        if code == -signal.SIGKILL or (message is None and no_memory):
            return MEMORY
        return message or f"the run ended with code {code}: {lines[-1] if lines else 'no output'} (see {self._log})"
