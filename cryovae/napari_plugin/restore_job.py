"""A run of ``cryovae restore`` as a process beside the window: begun, looked at, stopped. Neither Qt nor napari is needed here.

What it says goes to ``window.log`` in its folder, so that it can go on when nobody reads it any more.
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
from cryovae.napari_plugin.restore_model import OFTEN
from cryovae.workflows.live import LIVE
from cryovae.workflows.run_folder import read_metrics

LINE = re.compile(r"^\d\d:\d\d:\d\d (.+?) (\d+)/(\d+) .*ETA (\S+)$")
SAYS = "cryovae: "
INTERRUPTED = 75
# Of the end of the log so much is read at a time.
TAIL = 20_000


@dataclass(frozen=True)
class State:
    """phase: what is being done, e.g. training. done, total: of its steps or tiles. remaining: of this phase, h:mm:ss."""

    phase: str = "starting"
    done: int = 0
    total: int = 0
    remaining: str = ""


class Job:
    """One process. ``begin`` starts it, ``state`` and ``losses`` tell how far it is, ``ended`` is its exit code."""

    def __init__(self, words: Sequence[str], folder: Path) -> None:
        self.words, self.folder = list(words), folder
        self.stopping = False
        self._process: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        """Start it. OSError if its folder cannot be written."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._log.open("wb") as log:
            # A session of its own: a Ctrl-C in the terminal of napari is not meant for it.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "cryovae", *self.words],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env=os.environ | OFTEN,
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
        """Ask it to save its state and leave."""
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
        """How far it is, by the last line of progress; of training by its figures, if they are further."""
        found = next((match for line in reversed(self._lines()) if (match := LINE.match(line))), None)
        if found is None:
            return State()
        return State(found[1].split(",")[0], int(found[2]), int(found[3]), found[4])

    def losses(self) -> dict[str, list[tuple[int, float]]]:
        """(step, value) of what is trained, in nats per coefficient, and of the gain on held-out patches."""
        rows = read_metrics(self.folder / "metrics.csv")
        names = {"completion": "completion", "val_gain": "held-out gain", "loss": "loss"}
        return {
            said: [(int(row["step"]), float(row[name])) for row in rows if row.get(name)]
            for name, said in names.items()
            if any(row.get(name) for row in rows)
        }

    def live(self) -> Path | None:
        """The file in which training shows how it is coming on, once there is one."""
        path = self.folder / LIVE
        return path if path.is_file() else None

    def complaint(self) -> str | None:
        """Why it ended without a result, in one line; None where it did not, or was stopped on purpose."""
        code = self.ended
        if code in (None, 0, INTERRUPTED) or (self.stopping and code in (-signal.SIGTERM, 130)):
            return None
        if code == -signal.SIGKILL:
            return MEMORY
        lines = [line for line in self._lines() if line.strip()]
        said = next((line.removeprefix(SAYS) for line in reversed(lines) if line.startswith(SAYS)), None)
        if said is None and any("MemoryError" in line or "not enough memory" in line for line in lines[-3:]):
            return MEMORY
        return said or f"the run ended with code {code}: {lines[-1] if lines else 'it said nothing'} (see {self._log})"
