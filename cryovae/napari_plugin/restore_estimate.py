"""How long a restoration will take, and how much memory, before it is started. No window is needed here.

    training    K t v, v voxels of all patches of all steps
    sampler     K' t' v' , v' voxels of all patches of all steps of its fit, and K'' t' n for the volumes sampled before it
    restoring   K''' t n + K'''' t' n samples, n voxels of the tomogram

t and t' are seconds a voxel of a forward pass of the network of the settings, and of that of the preset quick, timed when asked
for. The factors K are those of a recorded run (REFERENCE), so an estimate is good to about a factor of two.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from math import prod

import torch

from cryovae.config import RunConfig, preset
from cryovae.models.ladder import Ladder, R
from cryovae.models.ladder_config import LadderConfig
from cryovae.napari_plugin.layers import density_of
from cryovae.napari_plugin.restore_model import Request
from cryovae.phases import duration
from cryovae.posterior.tile_memory import side_of
from cryovae.workflows.compute import device_of
from cryovae.workflows.memory import budget_of
from cryovae.workflows.streaming import memory_needed

# Side of a patch from which one pass is long enough to be timed.
LARGE = 64


@dataclass(frozen=True)
class Factors:
    """Seconds of each part of a run over those of a forward pass of as many voxels, no unit.

    Attributes:
        step: A step of training.
        fit: The fit of the sampler in as many steps as those of the preset quick, over the seconds of one voxel.
        lap: The samples and measures about the fit, a voxel of the tomogram.
        mean: The mean, the held-out data and the report, a voxel of the tomogram.
        sample: A sample, a voxel of the tomogram.
    """

    step: float
    fit: float
    lap: float
    mean: float
    sample: float


# data_samples/sample, 64 x 80 x 72 voxels, its halves restored too, preset quick, 240 steps, 8 samples, one thread: 562 processor
# seconds (29 November 2026), where a forward pass took 4.1e-6 s a voxel.
REFERENCE = Factors(step=0.97, fit=8.05e7, lap=34.7, mean=13.9, sample=0.174)


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


@lru_cache(maxsize=16)
def seconds_a_voxel(config: LadderConfig, side: int) -> float:
    """Seconds a voxel of a forward pass of a network of these sizes, for a patch of ``side`` voxels; of small ones the second."""
    network = Ladder(config).eval()
    patch = torch.zeros(1, 1, side, side, side)
    spent = 0.0
    with torch.inference_mode():
        for _ in range(2 if side < LARGE else 1):
            began = time.perf_counter()
            network.restore(network.encode(patch[:, 0], R), None)
            spent = time.perf_counter() - began
    return spent / side**3


def seconds_of(config: RunConfig, voxels: int, halves: bool, trains: bool) -> dict[str, float]:
    """Seconds by part of a run on a processor.

    Args:
        config: The settings.
        voxels: Voxels of the tomogram.
        halves: Whether its halves are restored too.
        trains: Whether a model is trained.
    """
    quick = preset("quick")
    t = seconds_a_voxel(config.ladder, side_of(config.ladder, config.training.patch))
    t_flow = seconds_a_voxel(quick.ladder, side_of(quick.ladder, quick.training.patch))
    training, fit, how = config.training, config.adaptation, config.restoration
    spent = {"training": 0.0, "sampler": 0.0, "restoring": REFERENCE.mean * t * voxels * (2 if halves else 1)}
    if trains:
        spent["training"] = REFERENCE.step * t * training.steps * training.batch * training.patch**3
    if how.by_flow and config.objective.variational:
        steps = fit.steps * fit.batch / (quick.adaptation.steps * quick.adaptation.batch)
        if trains:
            spent["sampler"] = fit.laps * t_flow * (REFERENCE.fit * steps + REFERENCE.lap * min(voxels, fit.voxels))
        spent["restoring"] += REFERENCE.sample * t_flow * voxels * how.samples * how.flow_steps
    elif config.objective.variational:
        spent["restoring"] += t * voxels * how.samples / 2
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
    trains = parsed.model is None and not at_once
    seconds = {} if device.type != "cpu" else seconds_of(config, prod(shape), halves and restores_halves(config), trains)
    return Estimate(seconds, needed, budget_of(parsed.compute.memory))


def restores_halves(config: RunConfig) -> bool:
    """Whether the halves are restored one by one too."""
    return bool(config.restoration.halves and "halves" in config.restoration.outputs)
