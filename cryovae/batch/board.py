"""Shows the rows of a batch while its jobs run: as one table on a terminal, else as a line for each change."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from datetime import datetime
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from cryovae.batch.status import Status, counted
from cryovae.io.names import in_one_line
from cryovae.progress.display import SECONDS, clock_time

# The last line of a run's log: what is under way, how much of it is done, and the remaining time.
PROGRESS = re.compile(r"(?P<phase>.+?)(?: (?P<done>\d+/\d+) .*?|, [^,]* since the start)? ETA (?P<eta>[0-9:]+)$")
# Seconds between two looks at the run folders, which lie on a shared disk.
LOOK = 5.0


class Board:
    """Shows the states of the rows. Use it as a context manager, and call it often.

    Args:
        states: reads the states of the rows from their run folders.
        clock: seconds of a clock that goes on.
    """

    def __init__(self, states: Callable[[], list[Status]], clock: Callable[[], float] = time.monotonic) -> None:
        self._states, self._clock = states, clock
        self._live: Live | None = None
        self._shown: dict[str, str] = {}
        self._looked = self._said = -SECONDS

    def __enter__(self) -> Board:
        if sys.stdout is not None and sys.stdout.isatty():
            self._live = Live(console=Console(), auto_refresh=False)
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self) -> None:
        """Show the states anew, if it is time to."""
        now = self._clock()
        if now - self._looked < LOOK:
            return
        self._looked = now
        states = self._states()
        if self._live is not None:
            self._live.update(table_for(states), refresh=True)
            return
        changed = [status for status in states if self._shown.get(status.name) != status.state]
        self._shown = {status.name: status.state for status in states}
        if not changed and now - self._said >= SECONDS:
            changed = [status for status in states if status.state == "running"] or states[:0]
            if not changed:
                self._say(counted(states))
        for status in changed:
            self._say(" ".join(word for word in (f"{status.name}:", status.state, *progress_of(status)) if word))

    def _say(self, line: str) -> None:
        print(f"{datetime.now():%H:%M:%S} {in_one_line(line)}", flush=True)
        self._said = self._clock()


def progress_of(status: Status) -> tuple[str, str]:
    """The phase and the remaining time of a running row; of another row the reason for its state."""
    match = PROGRESS.match(status.why) if status.state == "running" else None
    if match is None:
        return (status.why, "")
    done = f" {match['done']}" if match["done"] else ""
    return f"{match['phase']}{done}", f"ETA {match['eta']}"


def table_for(states: list[Status]) -> Table:
    """The states as a table for a terminal."""
    table = Table("name", "state", "time", "ETA", "what", title=counted(states), title_justify="left", box=None, pad_edge=False)
    for status in states:
        what, eta = progress_of(status)
        taken = "" if status.seconds is None else clock_time(status.seconds)
        cells = (status.name, status.state, taken, eta.removeprefix("ETA "), what)
        table.add_row(*(escape(in_one_line(cell)) for cell in cells))
    return table
