"""The phases of a piece of work: which is under way, and how long they take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Called with the name of a phase and True when it begins, False when it ends.
listeners: list[Callable[[str, bool], None]] = []


@contextmanager
def announced(name: str) -> Iterator[None]:
    """Tell the listeners that a phase begins and ends."""
    for listener in tuple(listeners):
        listener(name, True)
    try:
        yield
    finally:
        for listener in tuple(listeners):
            listener(name, False)


class Phases:
    """Seconds of named phases, in the order in which they began. Seconds of a phase within another count for the inner one.

    Attributes:
        seconds: by phase.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._within = 0.0

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Add the seconds of the block to those of a phase, also if it fails."""
        began, before, self._within = time.monotonic(), self._within, 0.0
        self.seconds.setdefault(name, 0.0)
        try:
            with announced(name):
                yield
        finally:
            took = time.monotonic() - began
            self.seconds[name] += took - self._within
            self._within = before + took

    def add(self, seconds: dict[str, float]) -> None:
        """Add those of other phases."""
        for name, more in seconds.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + more

    def rounded(self) -> dict[str, float]:
        """Seconds to a tenth."""
        return {name: round(seconds, 1) for name, seconds in self.seconds.items()}

    def sentence(self) -> str:
        """Where the time went, the phases that took a second at least: 'training 12 min 36 s, mean 8 s; 12 min 44 s in all'."""
        parts = [f"{name} {duration(seconds)}" for name, seconds in self.seconds.items() if seconds >= 1]
        total = f"{duration(sum(self.seconds.values()))} in all"
        return f"{', '.join(parts)}; {total}" if parts else total


def duration(seconds: float) -> str:
    """'8 s', '12 min 36 s', '3 h 5 min'."""
    count = round(seconds)
    if count < 60:
        return f"{count} s"
    if count < 3600:
        return f"{count // 60} min {count % 60} s"
    return f"{count // 3600} h {count % 3600 // 60} min"
