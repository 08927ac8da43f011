"""Leaving when asked: Ctrl-C, and SIGTERM and SIGUSR1, by which clusters announce that a job's time is over.

A command leaves at once, and what it was writing is removed. Training saves its state first, at its next step.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

# Clusters kill 30 s after SIGTERM: a step that lasts longer than this many seconds is not waited for.
PATIENCE = 20.0
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
# Those that have come to this process.
received: set[int] = set()


class Terminated(Exception):
    """The run was stopped by SIGTERM or SIGUSR1. What it had is saved, or there was nothing to save."""


class StoppedMidStep(Terminated):
    """The run was stopped in the middle of a step that lasted too long; the state saved before it stays."""


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM and SIGUSR1 raise Terminated wherever the main thread stands; other threads get no signals."""

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        received.add(number)
        raise Terminated(f"stopped by {signal.Signals(number).name}")

    with _handled(dict.fromkeys(SIGNALS, leave)):
        yield


@contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
    """Let the signals ask for a stop, at the next step, instead of breaking off; a second Ctrl-C breaks off.

    Raises Late when SIGTERM or SIGUSR1 came and no step has ended PATIENCE seconds later.
    """
    asked: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.append(number)
        received.add(number)
        if number != signal.SIGINT:
            signal.setitimer(signal.ITIMER_REAL, PATIENCE)

    def late(number: int, frame: FrameType | None) -> NoReturn:
        raise StoppedMidStep("stopped in the middle of a step, the state saved before it stays")

    def stop() -> bool:
        if asked:
            signal.setitimer(signal.ITIMER_REAL, 0)
        return bool(asked)

    with _handled({signal.SIGALRM: late} | dict.fromkeys((signal.SIGINT, *SIGNALS), ask)):
        try:
            yield stop
        finally:
            if asked:
                signal.setitimer(signal.ITIMER_REAL, 0)


@contextmanager
def _handled(handlers: dict[signal.Signals, Callable[[int, FrameType | None], None]]) -> Iterator[None]:
    """The handlers set, and those before them put back. Only the main thread may set any: without effect elsewhere."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
