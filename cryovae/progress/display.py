"""One display for all phases of a run: a bar for the whole on a terminal, else a line every few seconds, with one ETA.

The phases announce themselves (cryovae/phases.py), and a ``Watch`` counts the parts of one. While nothing is reported, a thread
says which phase is under way, so that a log never stands still for long.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from types import TracebackType

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from cryovae.phases import duration, listeners
from cryovae.progress.estimate import Estimate, Task

log = logging.getLogger("cryovae")
# Seconds between two lines without a terminal; the window in napari sets fewer.
SECONDS = float(os.environ.get("CRYOVAE_PROGRESS_SECONDS", "15"))
# Seconds between two looks at the clock.
LOOK = 1.0
# Parts of the bar.
PARTS = 1000


class Display:
    """Shows how far a run is. Use it as a context manager; one within another shows nothing of its own.

    Args:
        clock: seconds of a clock that goes on.
        background: whether a thread says something while nothing is reported.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, background: bool = True) -> None:
        self._clock, self._background = clock, background
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._phases: list[str] = []
        self._title, self._done, self._total, self._note = "", 0, 0, ""
        self._estimate: Estimate | None = None
        self._is_preliminary = False
        # Time and number of the first part that was counted.
        self._pace: tuple[float, int] | None = None
        self._bar: Progress | None = None
        self._is_outer = False

    def __enter__(self) -> Display:
        self._is_outer = not _open
        if not self._is_outer:
            return self
        _open.append(self)
        listeners.append(self._phase)
        self._began = self._marked = self._said = self._clock()
        if sys.stderr is not None and sys.stderr.isatty():
            columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.percentage:.0f} %"))
            self._bar = Progress(*columns, TimeElapsedColumn(), TextColumn("ETA {task.fields[eta]}", markup=False))
            self._task = self._bar.add_task("starting", total=PARTS, eta="-:--:--")
            self._bar.start()
        if self._background:
            threading.Thread(target=self._watch, daemon=True, name="cryovae progress").start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not self._is_outer:
            return
        self._stop.set()
        _open.remove(self)
        listeners.remove(self._phase)
        if self._bar is not None:
            self._bar.stop()

    @property
    def has_plan(self) -> bool:
        """Whether it knows for certain what is to be done."""
        return self._estimate is not None and not self._is_preliminary

    def expect(self, tasks: Sequence[Task], machine: float, preliminary: bool = False) -> None:
        """Take a plan, unless there is one: that of a table stands above those of its rows.

        A preliminary plan, of before the input is checked, is not said, and gives way to another.
        """
        with self._lock:
            if self.has_plan or (preliminary and self._estimate is not None):
                return
            self._spend()
            self._is_preliminary = preliminary
            self._estimate = Estimate(tasks, machine)
            for name in self._phases:
                self._estimate.begin(name)
        if preliminary:
            return
        parts = ", ".join(f"{task.name} {duration(machine * task.seconds)}" for task in tasks if machine * task.seconds >= 1)
        total = duration(machine * sum(task.seconds for task in tasks))
        self._say(f"expected: {parts}; about {total} in all" if parts else f"expected: about {total} in all")

    def report(self, title: str, done: int, total: int, note: str, first: int) -> None:
        """So many of ``total`` parts of the present phase are done."""
        with self._lock:
            self._spend()
            if title != self._title or self._pace is None:
                self._pace = self._clock(), done
            self._title, self._done, self._total, self._note = title, done, total, note
            if self._estimate is not None and self._phases:
                self._estimate.count(self._planned, done, total, first)
            if self._clock() - self._said > SECONDS or done == total:
                self._say(self.line())
            elif self._bar is not None:
                self._draw()

    def beat(self) -> None:
        """Say how far the run is, if nothing has been said for some time."""
        with self._lock:
            self._spend()
            if self._clock() - self._said >= SECONDS:
                self._say(self.line())
            elif self._bar is not None:
                self._draw()

    def line(self) -> str:
        """How far the run is, in one line."""
        left = self._remaining()
        eta = "" if left is None else f" ETA {clock_time(left)}"
        if self._total:
            return f"{self._task_name} {self._done}/{self._total} {self._note}{eta}"
        return f"{self._task_name}, {duration(self._clock() - self._began)} since the start{eta}"

    @property
    def _task_name(self) -> str:
        """What is under way: the title of what is counted, with the phase within it, or the phase."""
        phase = self._phases[-1] if self._phases else "starting"
        if not self._total:
            return phase
        what, comma, unit = self._title.partition(",")
        within = self._estimate is not None and bool(self._phases) and self._planned != phase
        return f"{what} ({phase}){comma}{unit}" if within and phase != what else self._title

    def _remaining(self) -> float | None:
        """Seconds until the end: of the run, by its plan, or else of what is counted, by its own pace."""
        if self._estimate is not None:
            return self._estimate.remaining()
        if not self._total or self._pace is None:
            return None
        began, first = self._pace
        return (self._clock() - began) / max(self._done - first, 1) * (self._total - self._done)

    def _phase(self, name: str, begins: bool) -> None:
        with self._lock:
            self._spend()
            if begins:
                self._phases.append(name)
            elif name in self._phases:
                self._phases.reverse()
                self._phases.remove(name)
                self._phases.reverse()
            if self._estimate is not None:
                (self._estimate.begin if begins else self._estimate.end)(name)
            self._title, self._done, self._total, self._note = "", 0, 0, ""
            if self._bar is not None:
                self._draw()

    @property
    def _planned(self) -> str:
        """The innermost phase that the plan has, or else the innermost of all."""
        assert self._estimate is not None
        known = (name for name in reversed(self._phases) if name in self._estimate.tasks)
        return next(known, self._phases[-1])

    def _spend(self) -> None:
        """Give the time since the last call to the innermost phase."""
        now = self._clock()
        if self._estimate is not None and self._phases:
            self._estimate.spend(self._planned, now - self._marked)
        self._marked = now

    def _say(self, line: str) -> None:
        log.info("%s", line)
        if self._bar is None:
            print(f"{datetime.now():%H:%M:%S} {line}", file=sys.stderr, flush=True)
        else:
            self._draw()
        self._said = self._clock()

    def _draw(self) -> None:
        assert self._bar is not None
        phase = f"{self._task_name} {self._done}/{self._total}" if self._total else self._task_name
        left, gone = self._remaining(), self._clock() - self._began
        if left is None:
            self._bar.update(self._task, description=phase)
            return
        self._bar.update(self._task, description=phase, completed=PARTS * gone / max(gone + left, 1e-9), eta=clock_time(left))

    def _watch(self) -> None:
        while not self._stop.wait(LOOK):
            try:
                self.beat()
            except (OSError, ValueError):
                # Nobody reads on: the work itself meets that where it prints.
                return


_open: list[Display] = []


def current() -> Display | None:
    """The display of the run that is under way, or None."""
    return _open[0] if _open else None


def clock_time(seconds: float) -> str:
    """h:mm:ss."""
    count = int(seconds)
    return f"{count // 3600}:{count % 3600 // 60:02d}:{count % 60:02d}"
