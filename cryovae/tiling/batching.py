"""Batches that fit: as many tiles at once as the memory allows, and half as many when it turns out too small."""

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
    """Whether an error says that memory ran out, on a GPU or off it."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in LACKING)


class Batches:
    """Walks through work in batches of ``size``; a batch for which memory runs out is halved, and so are those after it."""

    def __init__(self, size: int) -> None:
        self.size = max(1, size)

    def over(self, items: Sequence[T], work: Callable[[Sequence[T]], Result]) -> Iterator[tuple[Sequence[T], Result]]:
        """Each batch of the items and the result of ``work``; an error of memory for a single item is raised."""
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
                # Outside the handler, where the error still holds on to the tensors of the batch.
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
                continue
            yield part, made
            start += len(part)


def free_on(device: torch.device) -> float:
    """Free memory in bytes of a GPU; no limit for a CPU, whose budget is kept elsewhere."""
    if device.type != "cuda":
        return float("inf")
    free, _ = torch.cuda.mem_get_info(device)
    return 0.9 * free
