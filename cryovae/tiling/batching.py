"""Batches of tiles that fit into memory; the batch size is halved when memory runs out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

T = TypeVar("T")
Result = TypeVar("Result")
log = logging.getLogger("cryovae")

LACKING = ("not enough memory", "out of memory", "can't allocate memory", "cudnn_status_alloc_failed")


def lacks_memory(error: BaseException) -> bool:
    """Whether an error reports that memory ran out, on a GPU or a CPU."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in LACKING)


class Batches:
    """Processes items in batches.

    Attributes:
        size: largest number of items in a batch, at least 1; halved for all later batches when memory runs out.
    """

    def __init__(self, size: int) -> None:
        self.size = max(1, size)

    def over(self, items: Sequence[T], work: Callable[[Sequence[T]], Result]) -> Iterator[tuple[Sequence[T], Result]]:
        """Apply ``work`` to all items, batch by batch.

        Args:
            items: the items, processed in order.
            work: function of a batch; called again with half the batch if memory runs out.

        Yields:
            A batch of the items and the result of ``work``.

        Raises:
            MemoryError, RuntimeError: memory runs out for a single item, or ``work`` fails for another reason.
        """
        start = 0
        while start < len(items):
            part = items[start : start + self.size]
            try:
                made = work(part)
            except (MemoryError, RuntimeError) as error:
                if not lacks_memory(error) or len(part) == 1:
                    raise
                self.size = max(1, len(part) // 2)
                log.warning("memory ran out with %d tiles at once: going on with %d", len(part), self.size)
                made = None
            if made is None:
                # Outside the handler, because the error keeps the tensors of the batch alive inside it.
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
                continue
            yield part, made
            start += len(part)


def free_on(device: torch.device) -> float:
    """90 % of the free memory of a GPU in bytes; infinity for a CPU, whose memory budget is checked elsewhere."""
    if device.type != "cuda":
        return float("inf")
    free, _ = torch.cuda.mem_get_info(device)
    return 0.9 * free
