"""Counts the parts of a piece of work: for the display of the run, or else on a bar, or by lines, with the remaining time."""

from __future__ import annotations

import logging
import sys
import time
from contextlib import ExitStack
from datetime import datetime
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cryovae.progress.display import SECONDS, Display, clock_time, current

log = logging.getLogger("cryovae")


class Watch:
    """Shows the progress of a long task. Use it as a context manager, and call ``update`` as often as you like.

    Attributes:
        title: name of the task.
        total: number of its parts.
        first: parts that were done before.
    """

    def __init__(self, title: str, total: int, done: int = 0) -> None:
        self.title, self.total, self.first = title, total, done
        self._bar: Progress | None = None
        self._display: Display | None = None
        self._said = time.monotonic()
        # Time and number of the first part that was done: what comes before it, e.g. a calibration, says nothing of the rest.
        self._from: tuple[float, int] | None = None

    def __enter__(self) -> Watch:
        self._display = current()
        if self._display is None and sys.stderr is not None and sys.stderr.isatty():
            columns = (_text("{task.description}"), BarColumn(), MofNCompleteColumn(), _text("{task.fields[note]}"))
            self._bar = Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn())
            self._task = self._bar.add_task(self.title, total=self.total, completed=self.first, note="")
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int, note: str = "", total: int | None = None) -> None:
        """Report that ``done`` of ``total`` parts are done; ``note`` has a few figures."""
        self.total = self.total if total is None else total
        if self._display is not None:
            self._display.report(self.title, done, self.total, note, self.first)
            return
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=self.total, note=note)
        self._from = self._from or (now, done)
        began, first = self._from
        if (now - self._said > SECONDS and done > first) or done == self.total:
            rate = (now - began) / max(done - first, 1)
            line = f"{self.title} {done}/{self.total} {note} ETA {clock_time(rate * (self.total - done))}"
            log.info(line)
            if self._bar is None:
                print(f"{datetime.now():%H:%M:%S} {line}", file=sys.stderr, flush=True)
            self._said = now


class Stages:
    """Shows the progress of one stage of the work after the other. Use it as a context manager, and call it often."""

    def __init__(self) -> None:
        self._stack, self._stage = ExitStack(), ""
        self._watch: Watch | None = None

    def __enter__(self) -> Stages:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Report that ``done`` of ``total`` parts of a stage are done; a new stage ends the one before."""
        if self._watch is None or stage != self._stage:
            self._stack.close()
            self._stage, self._watch = stage, self._stack.enter_context(Watch(stage, total))
        self._watch.update(done)


def _text(format_: str) -> TextColumn:
    """A column of plain text, without markup."""
    return TextColumn(format_, markup=False)
