"""How long a restoration will take, and how much memory, before it is started. No window is needed here.

Time is that of the plan of ``cryovae restore --dry-run`` (progress/costs.py), good to about a factor of two.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from cryovae.config import override
from cryovae.napari_plugin.layers import density_of
from cryovae.napari_plugin.restore_model import Request
from cryovae.phases import duration
from cryovae.posterior.search import AMORTISED, FLOW
from cryovae.progress.costs import Work, machine_factor, tasks_of
from cryovae.workflows.compute import device_of
from cryovae.workflows.memory import budget_of
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
    device = device_of(parsed.compute.device)
    config = request.config("quick" if device.type == "cpu" else "default")
    halves = len(request.volumes) == 2
    shape = tuple(request.box.shape if request.box is not None else density_of(request.volumes[0]).shape)
    needed = memory_needed(shape, halves, None, config, device)
    at_once = parsed.start is not None and parsed.start != "none" and parsed.settings.steps is None
    steps = 0 if parsed.model is not None or at_once else config.training.steps
    is_asked = parsed.settings.names("restoration.sampler") or parsed.settings.quality is not None
    if at_once and config.restoration.sampler == FLOW and not is_asked:
        # A network that restores at once draws by its encoder, unless the sampler is named.
        config = override(config, {"restoration.sampler": AMORTISED})
    fits = parsed.model is None and config.restoration.by_flow and config.objective.variational
    work = Work([shape], halves, config, steps, fits, tries=at_once)
    return Estimate(seconds_of(work) if device.type == "cpu" else {}, needed, budget_of(parsed.compute.memory))
