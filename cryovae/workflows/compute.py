"""Settings of the computation: device, threads and memory."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from cryovae.errors import InputError
from cryovae.workflows.options import option

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class ComputeOptions:
    """The device, the number of CPU threads, and the memory that the run may use."""

    panel: ClassVar[str] = "Computing"
    device: str = option("auto, cpu, cuda or cuda:N.", default="auto")
    threads: int | None = option("CPU threads; without it OMP_NUM_THREADS, or the CPUs of the job.")
    memory: str | None = option(
        "Memory that the run may use, e.g. 4GB; larger tomograms are restored out of core. Without it 80 % of what is free."
    )

    def open_device(self) -> torch.device:
        """The device, or the best that there is; sets the number of CPU threads. InputError if there is no such device."""
        import torch

        if self.threads is not None:
            if self.threads < 1:
                raise InputError(f"--threads {self.threads} found, expected 1 or more")
            torch.set_num_threads(self.threads)
        elif "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(cpus())
        torch.set_flush_denormal(True)
        return device_of(self.device, "--device")


def device_of(name: str, label: str = "device") -> torch.device:
    """The device of a name, the GPU of 'auto' if there is one.

    Args:
        name: auto, cpu, cuda or cuda:N.
        label: name of the setting, for errors.

    Raises:
        InputError: the name is unknown, or torch sees no such device.
    """
    import torch

    if name in ("auto", "cuda") and torch.cuda.is_available():
        # Each of several processes on one machine uses the GPU that was assigned to it.
        assigned = "MASTER_ADDR" in os.environ and torch.distributed.is_initialized()
        return torch.device("cuda", torch.cuda.current_device()) if assigned else torch.device("cuda")
    if name == "auto":
        return torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"{label} {name} found, expected auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"{label} {name} found, but torch sees no CUDA device here: use {label} cpu")
    return device


def cpus() -> int:
    """The number of CPUs of this process, by Slurm or by its affinity."""
    allotted = os.environ.get("SLURM_CPUS_PER_TASK", "")
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(int(allotted), usable) if allotted.isdigit() and int(allotted) else usable
