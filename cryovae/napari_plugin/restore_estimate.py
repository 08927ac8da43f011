"""How long a restoration will take, and how much memory, before it is started. No window is needed here.

Time is that of the plan of ``cryovae restore --dry-run`` (progress/costs.py), good to about a factor of two.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import torch

from cryovae.checkpoint import Checkpoint
from cryovae.napari_plugin.layers import density_of
from cryovae.napari_plugin.restore_model import Request
from cryovae.phases import duration
from cryovae.progress.costs import Work, machine_factor, tasks_of
from cryovae.workflows.plan import plan_of
from cryovae.workflows.restoration import open_model
from cryovae.workflows.run import job_of
from cryovae.workflows.streaming import memory_needed

# Parts of a run by the stage of its phases in a plan.
PARTS = {0: "checking", 1: "training", 2: "training", 3: "sampler", 4: "restoring"}


@dataclass(frozen=True)
class Estimate:
    """What a run will take.

    Attributes:
        seconds: By part of the run; empty where no factors are known.
        memory: Bytes, if the tomogram is held in memory.
        budget: Bytes that may be taken.
    """

    seconds: dict[str, float]
    memory: float
    budget: float

    def words(self) -> str:
        """Both in two sentences."""
        gb = f"Memory: about {self.memory / 1e9:.1f} GB of {self.budget / 1e9:.1f} GB"
        gb += "." if self.memory <= self.budget else ", so the tomogram is read from disk in parts (slower)."
        if not self.seconds:
            return f"{gb} Time: shown once the run has begun; there is no estimate for a GPU."
        parts = ", ".join(f"{name} {duration(spent)}" for name, spent in self.seconds.items() if spent >= 1)
        return f"Time: about {duration(sum(self.seconds.values()))} ({parts}), within a factor of two. {gb}"


@lru_cache(maxsize=1)
def machine() -> float:
    """How many times slower this machine is than the one on which costs were measured."""
    return machine_factor(on_gpu=False)


def seconds_of(work: Work) -> dict[str, float]:
    """Seconds by part of a run on a processor, as ``cryovae restore --dry-run`` has them by phase."""
    spent = dict.fromkeys(PARTS.values(), 0.0)
    for task in tasks_of(work):
        spent[PARTS[task.stage]] += machine() * task.seconds
    return spent


def estimate(request: Request) -> Estimate:
    """What a request will take. InputError if a setting is wrong."""
    parsed = request.parsed()
    threads = torch.get_num_threads()
    try:
        job, network = job_of(parsed), None
    finally:
        # A run has a process of its own; this one keeps its threads.
        torch.set_num_threads(threads)
    if parsed.model is not None:
        model, config = open_model(parsed.model, job.config)
        network, job = model.network, replace(job, config=config)
    plan = plan_of(job.config, job.start, network, job.sampler_asked)
    halves = len(request.volumes) == 2
    shape = tuple(request.box.shape if request.box is not None else density_of(request.volumes[0]).shape)
    known = network if network is not None else None if job.start is None else job.start.network
    trained = known if isinstance(known, Checkpoint) else None
    needed = memory_needed(shape, halves, trained, plan.config, job.device)
    return Estimate(seconds_of(plan.work([shape], halves)) if job.device.type == "cpu" else {}, needed, job.budget)
