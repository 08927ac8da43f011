"""Progress with what remains: a bar on a terminal, a plain line with the time every few seconds elsewhere."""

from __future__ import annotations

import os
import sys
import time
from datetime import datetime
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cryovae.workflows.run_folder import log

# Between two lines where there is no terminal; a window that reads them asks for more.
SECONDS = float(os.environ.get("CRYOVAE_PROGRESS_SECONDS", "15"))


class Watch:
    """Shows how far a long piece of work is. Use as a context manager; call ``update`` as often as you like."""

    def __init__(self, title: str, total: int, done: int = 0) -> None:
        self.title, self.total, self.first = title, total, done
        self._bar: Progress | None = None
        self._said = time.monotonic()
        # When the first part was done, and what it was: what comes before, a calibration say, is no measure of the rest.
        self._from: tuple[float, int] | None = None

    def __enter__(self) -> Watch:
        if sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"))
            self._bar = Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn())
            self._task = self._bar.add_task(self.title, total=self.total, completed=self.first, note="")
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int, note: str = "", total: int | None = None) -> None:
        """Say that ``done`` of the total are done, with a few figures."""
        self.total = self.total if total is None else total
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=self.total, note=note)
        self._from = self._from or (now, done)
        began, first = self._from
        if (now - self._said > SECONDS and done > first) or done == self.total:
            rate = (now - began) / max(done - first, 1)
            line = f"{self.title} {done}/{self.total} {note} ETA {clock(rate * (self.total - done))}"
            log.info(line)
            if self._bar is None:
                print(f"{datetime.now():%H:%M:%S} {line}", file=sys.stderr, flush=True)
            self._said = now


def clock(seconds: float) -> str:
    """h:mm:ss."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"
