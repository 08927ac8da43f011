"""Stops a run on Ctrl-C, and on SIGTERM and SIGUSR1, by which clusters announce that the time of a job is over.

A command stops at once, and the file that it was writing is removed. Training first saves its state, at its next step.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

# Seconds to wait for the end of a step: clusters kill a job 30 s after SIGTERM.
PATIENCE = 20.0
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
# The signals that this process has received.
received: set[int] = set()


class Terminated(Exception):
    """The run was stopped by SIGTERM or SIGUSR1, and its state is saved if there was any."""


class StoppedMidStep(Terminated):
    """The run was stopped in the middle of a long step; the state that was saved before it stays."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM and SIGUSR1 raise Terminated in the main thread, wherever it is."""

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        received.add(number)
        raise Terminated(f"stopped by {signal.Signals(number).name}")

    with _handled(dict.fromkeys(SIGNALS, leave)):
        yield


@contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
    """Let the signals ask for a stop at the next step; a second Ctrl-C stops at once.

    Raises StoppedMidStep if no step has ended PATIENCE seconds after SIGTERM or SIGUSR1.
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
    """Set handlers, and restore the earlier ones at the end. Has no effect outside the main thread, which alone may set any."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
