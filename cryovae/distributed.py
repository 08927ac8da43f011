"""Several processes at one piece of work, a GPU each: who they are, and what they tell each other.

Started by ``torchrun``, or by ``srun`` with MASTER_ADDR and MASTER_PORT set, every process runs the same command; by itself a
process is the only rank, and nothing here costs anything. All ranks draw the same random numbers and each works on its part, so
that what they find together is what one process finds at once, but for rounding. The first writes, the others are silent.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar, cast

import torch
from torch import Tensor, distributed

T = TypeVar("T")

# How a launcher names a process, how many there are, and its number on its machine.
TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
SRUN = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")
# Ranks wait for each other so long: the slowest may be reading a tomogram from a busy disk.
PATIENCE = timedelta(hours=1)


@dataclass(frozen=True)
class Place:
    """Of a process among those that were started with it."""

    rank: int = 0
    count: int = 1
    local: int = 0


def place(environment: Mapping[str, str] | None = None) -> Place:
    """What the launcher says; the only one if there is none."""
    given = os.environ if environment is None else environment
    if "MASTER_ADDR" not in given or "MASTER_PORT" not in given:
        return Place()
    for names in (TORCHRUN, SRUN):
        if all(given.get(name, "").isdigit() for name in names):
            rank, number, local = (int(given[name]) for name in names)
            return Place(rank, number, local) if number > 1 else Place()
    return Place()


@contextmanager
def joined(where: Place) -> Iterator[None]:
    """All ranks have met, and can tell each other; without effect for one alone."""
    if where.count == 1:
        yield
        return
    os.environ |= {"RANK": str(where.rank), "WORLD_SIZE": str(where.count), "LOCAL_RANK": str(where.local)}
    if torch.cuda.is_available():
        torch.cuda.set_device(where.local % torch.cuda.device_count())
    # Tensors on a GPU go one way, those in memory the other.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and distributed.is_nccl_available() else "gloo"
    distributed.init_process_group(backend, rank=where.rank, world_size=where.count, timeout=PATIENCE)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def count() -> int:
    """Ranks in all."""
    return distributed.get_world_size() if _several() else 1


def rank() -> int:
    """Of this process, from 0 on."""
    return distributed.get_rank() if _several() else 0


def own(size: int) -> slice:
    """This rank's part of ``size`` things in a row; the parts differ by one thing at most."""
    distributed, number = count(), rank()
    return slice(size * number // distributed, size * (number + 1) // distributed)


def summed(tensor: Tensor) -> Tensor:
    """The sum over all ranks, in place."""
    if _several():
        distributed.all_reduce(tensor)
    return tensor


def sum_gradients(parameters: Sequence[Tensor]) -> None:
    """Sum the gradients of all ranks, which are parts of one loss, in place."""
    if not _several():
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    total = summed(torch.cat([g.flatten() for g in gradients]))
    for gradient, part in zip(gradients, total.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def any_rank(flag: bool) -> bool:
    """Whether any rank says so."""
    return bool(summed(torch.tensor(float(flag)))) if _several() else flag


def told(value: T) -> T:
    """What the first rank says, in place of what this one would."""
    if not _several():
        return value
    held: list[object] = [value]
    distributed.broadcast_object_list(held)
    return cast(T, held[0])


def wait() -> None:
    """Until all ranks have come here."""
    any_rank(False)


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized()
