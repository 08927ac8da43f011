"""The batch of the next step, drawn while this one is worked on: a GPU then never waits for a disk."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Batch = TypeVar("Batch")


class Prefetcher(Generic[Batch]):
    """Batches by their step, the next one in a thread of its own. What is drawn depends on the step alone, not on when.

    draw: a step to its batch.
    """

    def __init__(self, draw: Callable[[int], Batch]) -> None:
        self.draw = draw
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="drawing")
        self._next: tuple[int, Future[Batch]] | None = None

    def __call__(self, step: int, then: int | None) -> Batch:
        """The batch of ``step``; ``then`` is the step to draw next, None where something changes before."""
        waiting, self._next = self._next, None
        batch = waiting[1].result() if waiting is not None and waiting[0] == step else self.draw(step)
        if then is not None:
            self._next = then, self._pool.submit(self.draw, then)
        return batch

    def close(self) -> None:
        """Draw no more."""
        self._next = None
        self._pool.shutdown(wait=True, cancel_futures=True)
