"""The plan of a run: its phases, and how many seconds each takes on the reference machine.

The seconds were measured on one core of an AMD EPYC with AVX-512 BF16 (processor time, ``quick``, 64 x 80 x 72 voxels), and grow
with voxels, passes and the operations of the network. How much slower this machine is says a convolution, timed when a run
begins; then the phases themselves say it (progress/estimate.py).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import prod

from cryovae.config import RunConfig, preset
from cryovae.models.ladder_config import LadderConfig
from cryovae.objectives.schedules import refill_steps
from cryovae.progress.display import current
from cryovae.progress.estimate import Task
from cryovae.progress.tasks import (
    CALIBRATION,
    CHECKING,
    FITTING,
    LAPS,
    MEASURING,
    PREPARING,
    REFILLING,
    REPORT,
    RESTORING,
    SAMPLING,
    SCENES,
    TRAINING,
    WRITING,
)

# Seconds of the convolution that is timed: 32 to 32 channels of 48^3 voxels, float32.
REFERENCE_SECONDS = 0.060
# How much faster a GPU is taken to be, until its own phases say it.
GPU_FACTOR = 0.1
# Seconds that a phase takes whatever the size, and seconds for each million voxels of the tomogram.
FIXED = {CHECKING: 1.0, PREPARING: 0.6, LAPS: 0.3, WRITING: 0.01, REPORT: 6.5}
PER_MVOXEL = {CHECKING: 2.0, PREPARING: 5.8, LAPS: 2.3, WRITING: 0.06, REPORT: 2.7}
# Seconds for each million voxels of patches in a step of training: completion alone, and with the bound.
COMPLETION, BOUND = 3.5, 6.1
# Seconds of one pass of the ladder over a million voxels.
LADDER_PASS = 1.0
# Seconds of one pass of the flow over a million voxels, of a scene for each million voxels, and of a patch in a step of the flow.
FLOW_PASS, SCENE, FLOW_PATCH = 0.30, 1.95, 0.053
# Passes of the flow in a lap: for its samples and hidden bins, and for what is measured after it.
LAP_PASSES, NULL_PASSES = 117, 93
# Passes for hidden bins, for means and for each half; of the ladder also for a pair of samples, and for the trial of a start.
FLOW_CALIBRATION, FLOW_MEANS, FLOW_HALF = 169, 24, 44
LADDER_CALIBRATION, LADDER_MEANS, LADDER_PAIR, LADDER_HALF, LADDER_TRIAL = 16.5, 2.3, 2.2, 1.1, 18
# Largest number of voxels on which hidden bins are looked at.
HIDDEN_VOXELS = 3 * 2**20


@dataclass(frozen=True)
class Work:
    """What a run does.

    Attributes:
        shapes: of its tomograms, (z, y, x) each.
        halves: whether they have halves.
        config: the settings.
        steps: of training that are left; 0 to train nothing.
        fits: whether the flow is fitted.
        restores: whether the tomograms are restored.
        tries: whether a network is tried on hidden data first.
    """

    shapes: Sequence[tuple[int, ...]]
    halves: bool
    config: RunConfig
    steps: int
    fits: bool
    restores: bool = True
    tries: bool = False


def tasks_of(work: Work) -> list[Task]:
    """The phases of a run, in their order."""
    mvoxels = sum(prod(shape) for shape in work.shapes) / 1e6
    count = len(work.shapes)
    checking = _simple(CHECKING, mvoxels, count, 0)
    trial = LADDER_TRIAL * LADDER_PASS * min(mvoxels / count, HIDDEN_VOXELS / 1e6) if work.tries else 0.0
    tasks = [replace(checking, seconds=checking.seconds + trial)]
    if work.steps:
        tasks += _training(work, mvoxels, count)
    if work.fits and work.config.restoration.by_flow:
        tasks += _laps(work, mvoxels)
    if work.restores:
        tasks += _restoring(work, mvoxels, count)
    return tasks


def _simple(name: str, mvoxels: float, count: int, stage: int, visits: int = 1) -> Task:
    return Task(name, count * FIXED[name] + PER_MVOXEL[name] * mvoxels, visits, stage)


def _training(work: Work, mvoxels: float, count: int) -> list[Task]:
    t, o = work.config.training, work.config.objective
    size = operations(work.config.ladder)
    alone = o.completion_fraction if o.variational else 1.0
    step = size * t.batch * t.patch**3 / 1e6
    first, second = step * COMPLETION * alone, step * BOUND * (1 - alone)
    bend = (alone, first / (first + second)) if 0 < alone < 1 else None
    tasks = [_simple(PREPARING, mvoxels, count, 1), Task(TRAINING, work.steps * (first + second), 1, 2, bend)]
    refills = len(refill_steps(t.steps, o.refill_from, o.refill_every)) * count
    if refills and o.variational:
        # Smaller sizes of a tomogram add an eighth, and so on.
        tasks.append(Task(REFILLING, refills * LADDER_PASS * size * 1.15 * mvoxels / count, refills, 2))
    return tasks


def _laps(work: Work, mvoxels: float) -> list[Task]:
    a = work.config.adaptation
    part, laps = min(mvoxels, a.voxels / 1e6), a.laps
    return [
        Task(LAPS, FIXED[LAPS] + PER_MVOXEL[LAPS] * part, 1, 3),
        Task(SAMPLING, (laps + 1) * LAP_PASSES * FLOW_PASS * part, laps + 1, 3),
        Task(MEASURING, (laps + 1) * NULL_PASSES * FLOW_PASS * part, laps + 1, 3),
        Task(SCENES, laps * a.scenes * SCENE * part, laps, 3),
        Task(FITTING, laps * a.steps * a.batch * FLOW_PATCH, laps, 3),
    ]


def _restoring(work: Work, mvoxels: float, count: int) -> list[Task]:
    r, size = work.config.restoration, operations(work.config.ladder)
    looked_at = sum(min(prod(shape), HIDDEN_VOXELS) for shape in work.shapes) / 1e6
    halves = 2 if work.halves and r.with_halves else 0
    tasks = []
    if r.by_flow and work.config.objective.variational:
        of_bins = FLOW_CALIBRATION * looked_at if r.calibrate else 0.0
        passes: float = FLOW_MEANS + r.samples * (2 * r.flow_steps + 1) + halves * FLOW_HALF
        tasks.append(Task(RESTORING, FLOW_PASS * (of_bins + passes * mvoxels), count, 4))
    else:
        of_bins = LADDER_CALIBRATION * looked_at if r.calibrate and work.config.objective.variational else 0.0
        passes = (
            LADDER_MEANS + LADDER_PAIR * r.samples / 2 + halves * LADDER_HALF if work.config.objective.variational else 1 + halves
        )
        tasks += [Task(CALIBRATION, LADDER_PASS * size * of_bins, count, 4)] if of_bins else []
        tasks.append(Task(RESTORING, LADDER_PASS * size * passes * mvoxels, count, 4))
    return [*tasks, _simple(WRITING, mvoxels, count, 4, count), _simple(REPORT, mvoxels, count, 4, count)]


def operations(sizes: LadderConfig) -> float:
    """Operations of a ladder for each voxel, over those of ``quick``."""
    return _operations(sizes) / _operations(preset("quick").ladder)


def _operations(sizes: LadderConfig) -> float:
    return float(sum((sizes.blocks + 1) * width**2 / 8**level for level, width in enumerate(sizes.widths)))


def expect(work: Work, on_gpu: bool, preliminary: bool = False) -> None:
    """Tell the display of the run that is under way what is to be done; ``preliminary``: before the input is checked."""
    display = current()
    if display is not None and not display.has_plan:
        tasks = [task for task in tasks_of(work) if preliminary or task.name != CHECKING]
        display.expect(tasks, machine_factor(on_gpu), preliminary)


@cache
def machine_factor(on_gpu: bool) -> float:
    """How many times slower this machine is than the reference: the median of some convolutions. Imports torch."""
    if on_gpu:
        return GPU_FACTOR
    import torch
    from torch.nn.functional import conv3d

    volume, weight = torch.zeros(1, 32, 48, 48, 48), torch.zeros(32, 32, 3, 3, 3)
    seconds = []
    with torch.no_grad():
        for _ in range(5):
            began = time.perf_counter()
            conv3d(volume, weight, padding=1)
            seconds.append(time.perf_counter() - began)
    return sorted(seconds)[2] / REFERENCE_SECONDS
