"""Training on a tomogram that is larger than the memory that a run may take: on the part of it that shows most."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path

import torch

from cryovae import ranks
from cryovae.config import RunConfig
from cryovae.inference.batches import bytes_of_tile
from cryovae.inference.searched import HELD
from cryovae.interfaces import memory
from cryovae.interfaces.run_folder import log
from cryovae.interfaces.streamed_run import shape_of
from cryovae.io.star.loading import Tomograms
from cryovae.objectives.telling_part import part_of
from cryovae.tomogram import InputError, Tomogram

# Volumes of 32 bits that are held at the most while a tomogram is made ready and trained on (measured: 21, 22 with halves).
IN_TRAINING = 24
# Sides of the smallest part, in patches.
LEAST = 2


def in_training(config: RunConfig, device: torch.device) -> float:
    """Bytes that a training takes beside its tomogram: the program, and on a processor a batch with all that gradients need."""
    training = config.training
    batch = HELD * training.batch * bytes_of_tile(config.ladder, training.patch) if device.type == "cpu" else 0
    return memory.PROGRAM + batch


def trainable(tomogram: Tomogram, config: RunConfig, device: torch.device, budget: int) -> Tomogram:
    """The tomogram itself, or the part of it on which a training keeps within ``budget`` bytes, cut out into memory.

    InputError if that would be next to nothing.
    """
    taken = in_training(config, device)
    voxels = _voxels(config, device, budget)
    if tomogram.density.size <= voxels:
        return tomogram
    least = (LEAST * config.training.patch) ** 3
    if voxels < least:
        needed = taken + 4 * IN_TRAINING * least
        raise InputError(
            f"{tomogram.name} is larger than memory, and {budget / 1e9:.2f} GB hold no part worth training on, expected at least "
            f"{needed / 1e9:.2f} GB for patches of {config.training.patch} voxels: give more --memory, or pass --model"
        )
    part = part_of(tomogram, voxels)
    shapes = [" x ".join(str(n) for n in t.shape) for t in (part, tomogram)]
    log.info("%s: larger than memory, trained on the %s of its %s voxels that show most", tomogram.name, *shapes)
    return part


def within(tomograms: Tomograms, firsts: Sequence[Path], config: RunConfig, device: torch.device, budget: int) -> Tomograms:
    """The same, of each that is too large only the part that is trained on; a deterministic network takes them whole.

    firsts: a file of each, of its size.
    """
    if not config.objective.variational:
        return tomograms
    voxels = _voxels(config, device, budget)

    def load(index: int, mapped: bool) -> Tomogram:
        large = prod(shape_of(firsts[index])) > voxels
        found = tomograms.load(index, mapped or large)
        return trainable(found, config, device, budget) if large else found

    return Tomograms(tomograms.names, load)


def _voxels(config: RunConfig, device: torch.device, budget: int) -> int:
    """Of a tomogram, as many as may be trained on."""
    # What is free differs between ranks, and they must train on one part.
    return int((ranks.told(budget) - in_training(config, device)) / (4 * IN_TRAINING))
