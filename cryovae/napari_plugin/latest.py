"""Work beside the window of which only the last request counts: a drag asks for more densities than can be decoded."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]

from cryovae.napari_plugin.notices import reporting

Task = tuple[Callable[[], Any], Callable[[Any], None]]


class Latest(QObject):  # type: ignore[misc]
    """Runs one function at a time in a thread of its own; of several of one kind that wait, only the last is run.

    Attributes:
        busy: Whether one is running or waiting.
    """

    _ended = Signal(object)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self.busy = False
        self._waiting: dict[str, Task] = {}
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="cryovae-decode")
        self._ended.connect(self._deliver)

    def submit(self, kind: str, compute: Callable[[], Any], show: Callable[[Any], None]) -> None:
        """Compute in the thread, then show the result in the window; an error is one notification.

        Args:
            kind: Of what is computed; a later one of the same kind takes the place of one that waits.
            compute: Run in the thread.
            show: Called in the window with the result.
        """
        if self.busy:
            self._waiting.pop(kind, None)
            self._waiting[kind] = (compute, show)
        else:
            self._begin((compute, show))

    def _begin(self, task: Task) -> None:
        self.busy = True
        compute, show = task
        self._pool.submit(compute).add_done_callback(partial(self._tell, show))

    def _tell(self, show: Callable[[Any], None], future: Future[Any]) -> None:
        # The window may be gone.
        with suppress(RuntimeError):
            self._ended.emit((show, future))

    def _deliver(self, ended: tuple[Callable[[Any], None], Future[Any]]) -> None:
        show, future = ended
        if future.cancelled():
            return
        if self._waiting:
            kind = next(iter(self._waiting))
            self._begin(self._waiting.pop(kind))
        else:
            self.busy = False
        with reporting():
            show(future.result())

    def stop(self) -> None:
        """Drop what waits; nothing is shown any more."""
        self._waiting.clear()
        with suppress(RuntimeError, TypeError):
            self._ended.disconnect(self._deliver)
        self.busy = False
        self._pool.shutdown(wait=False, cancel_futures=True)
