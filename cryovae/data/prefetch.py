"""Draws the batch of the next step during the current one, so that the GPU does not wait for the disk."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Batch = TypeVar("Batch")


class Prefetcher(Generic[Batch]):
    """Draws the next batch in a background thread.

    Args:
        draw: returns the batch of a step; it depends on the step alone.
    """

    def __init__(self, draw: Callable[[int], Batch]) -> None:
        self.draw = draw
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="drawing")
        self._next: tuple[int, Future[Batch]] | None = None

    def __call__(self, step: int, then: int | None) -> Batch:
        """Return the batch of ``step`` and start drawing that of ``then``; None if the data change before."""
        waiting, self._next = self._next, None
        batch = waiting[1].result() if waiting is not None and waiting[0] == step else self.draw(step)
        if then is not None:
            self._next = then, self._pool.submit(self.draw, then)
        return batch

    def close(self) -> None:
        """Stop drawing."""
        self._next = None
        self._pool.shutdown(wait=True, cancel_futures=True)
