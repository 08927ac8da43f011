"""Several processes on one task, one GPU each: rank, world size, and communication between them.

Started by ``torchrun``, or by ``srun`` with MASTER_ADDR and MASTER_PORT set, every process runs the same command. A process on
its own is the only rank. All ranks draw the same random numbers and each works on its own share, so that their combined result
is that of one process, up to rounding. The first rank writes files and prints.
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

# Environment variables with the rank, the number of ranks, and the rank on this machine.
TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
SRUN = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")
# Long, as the slowest rank may be reading a tomogram from a busy disk.
TIMEOUT = timedelta(hours=1)


@dataclass(frozen=True)
class Place:
    """Position of a process among those that were started with it.

    Attributes:
        rank: number of the process, from 0.
        count: number of processes.
        local: number of the process on its machine, from 0.
    """

    rank: int = 0
    count: int = 1
    local: int = 0


def place(environment: Mapping[str, str] | None = None) -> Place:
    """The place that the launcher assigned, read from environment variables; that of a single process if there is none."""
    variables = os.environ if environment is None else environment
    if "MASTER_ADDR" not in variables or "MASTER_PORT" not in variables:
        return Place()
    for names in (TORCHRUN, SRUN):
        if all(variables.get(name, "").isdigit() for name in names):
            rank, number, local = (int(variables[name]) for name in names)
            return Place(rank, number, local) if number > 1 else Place()
    return Place()


@contextmanager
def joined(where: Place) -> Iterator[None]:
    """Connect all ranks for the duration of the block; does nothing for a single process."""
    if where.count == 1:
        yield
        return
    os.environ |= {"RANK": str(where.rank), "WORLD_SIZE": str(where.count), "LOCAL_RANK": str(where.local)}
    if torch.cuda.is_available():
        torch.cuda.set_device(where.local % torch.cuda.device_count())
    # Tensors on a GPU use NCCL, tensors in memory use gloo.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and distributed.is_nccl_available() else "gloo"
    distributed.init_process_group(backend, rank=where.rank, world_size=where.count, timeout=TIMEOUT)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def count() -> int:
    """Number of ranks."""
    return distributed.get_world_size() if _several() else 1


def rank() -> int:
    """Number of this process, from 0."""
    return distributed.get_rank() if _several() else 0


def own(size: int) -> slice:
    """This rank's share of ``size`` consecutive items; the shares differ by one item at most."""
    return slice(size * rank() // count(), size * (rank() + 1) // count())


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
    """Whether the flag is set on any rank."""
    return bool(summed(torch.tensor(float(flag)))) if _several() else flag


def broadcast(value: T) -> T:
    """The first rank's value, on every rank."""
    if not _several():
        return value
    values: list[object] = [value]
    distributed.broadcast_object_list(values)
    return cast(T, values[0])


def barrier() -> None:
    """Wait until all ranks have arrived here."""
    any_rank(False)


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized()
