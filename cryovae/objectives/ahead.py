"""The batch of the next step, drawn while this one is worked on: a GPU then never waits for a disk, a turn or a filter."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from cryovae.objectives.pairs import Measurement


class Ahead:
    """Batches by their step, the next one in a thread of its own. What is drawn depends on the step alone, not on when.

    draw: a step to its batch. pinned: lay batches in memory that a GPU can read by itself.
    """

    def __init__(self, draw: Callable[[int], Measurement], pinned: bool = False) -> None:
        self.draw, self.pinned = draw, pinned
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="drawing")
        self._next: tuple[int, Future[Measurement]] | None = None

    def __call__(self, step: int, then: int | None) -> Measurement:
        """The batch of ``step``; ``then`` is the step to draw next, None where something changes before."""
        waiting, self._next = self._next, None
        found = waiting[1].result() if waiting is not None and waiting[0] == step else self._drawn(step)
        if then is not None:
            self._next = then, self._pool.submit(self._drawn, then)
        return found

    def close(self) -> None:
        """Draw no more."""
        self._next = None
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _drawn(self, step: int) -> Measurement:
        found = self.draw(step)
        return found.pinned() if self.pinned else found
