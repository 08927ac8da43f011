"""Settings of the computation: device, threads and memory."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from cryovae.errors import InputError
from cryovae.workflows.options import ADVANCED, option

if TYPE_CHECKING:
    import torch

DEVICES = re.compile(r"auto|cpu|mps|cuda(:[0-9]{1,3})?")


@dataclass(frozen=True)
class ComputeOptions:
    """The device, the number of CPU threads, and the memory that the run may use."""

    panel: ClassVar[str] = ADVANCED
    device: str = option("auto, cpu, cuda, cuda:N or mps.", default="auto", metavar="NAME", common=True)
    threads: int | None = option("CPU threads.", shown="OMP_NUM_THREADS, or the CPUs of the job")
    memory: str | None = option(
        "Memory to use, such as 4GB; 80 % of free. Larger tomograms are restored out of core.",
        metavar="SIZE",
        common=True,
    )

    def open_device(self) -> torch.device:
        """The device, or the best that there is; sets the number of CPU threads. InputError if there is no such device."""
        if self.device == "mps":
            # torch runs operators that mps lacks on the CPU, if this is set before torch is imported.
            os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
        import torch

        if self.threads is not None:
            if self.threads < 1:
                raise InputError(f"--threads {self.threads} found, expected 1 or more")
            torch.set_num_threads(self.threads)
        elif "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(cpus())
        torch.set_flush_denormal(True)
        return device_of(self.device, "--device")


def checked_device(name: str, label: str = "device") -> str:
    """The name of a device, which another machine may have. InputError if it is none that cryovae runs on."""
    if not DEVICES.fullmatch(name):
        raise InputError(f"{label} {name} found, expected auto, cpu, cuda, cuda:N or mps")
    return name


def device_of(name: str, label: str = "device") -> torch.device:
    """The device of a name, the GPU of 'auto' if there is one.

    Args:
        name: auto, cpu, cuda, cuda:N or mps, the GPU of an Apple computer.
        label: name of the setting, for errors.

    Raises:
        InputError: the name is unknown, or torch sees no such device.
    """
    import torch

    checked_device(name, label)
    if name in ("auto", "cuda") and torch.cuda.is_available():
        # Each of several processes on one machine uses the GPU that was assigned to it.
        assigned = "MASTER_ADDR" in os.environ and torch.distributed.is_initialized()
        return torch.device("cuda", torch.cuda.current_device()) if assigned else torch.device("cuda")
    if name == "auto":
        return torch.device("cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"{label} {name} found, but torch sees no CUDA device here: use {label} cpu")
    if name.startswith("cuda:") and int(name.removeprefix("cuda:")) >= (count := torch.cuda.device_count()):
        raise InputError(f"{label} {name} found, but torch sees {count} CUDA devices here, counted from 0: use {label} cuda:0")
    if name == "mps" and not torch.backends.mps.is_available():
        raise InputError(f"{label} mps found, but torch sees no GPU of Apple here: use {label} cpu")
    return torch.device(name)


def cpus() -> int:
    """The number of CPUs of this process, by Slurm or by its affinity."""
    allotted = os.environ.get("SLURM_CPUS_PER_TASK", "")
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(int(allotted), usable) if allotted.isdigit() and int(allotted) else usable
