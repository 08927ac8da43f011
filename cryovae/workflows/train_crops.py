"""Training on tomograms that are larger than the memory that a run may take: on parts of them, those that show most."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from math import prod
from pathlib import Path

import torch

from cryovae import distributed
from cryovae.config import RunConfig
from cryovae.data.crops import Parts, part_names, pieces_of
from cryovae.errors import InputError
from cryovae.findings import Finding, Severity
from cryovae.io.star.loading import Tomograms
from cryovae.posterior.posterior_tiles import HELD
from cryovae.posterior.tile_memory import bytes_of_tile
from cryovae.tomogram import Tomogram
from cryovae.workflows import memory
from cryovae.workflows.run_folder import log
from cryovae.workflows.streaming import shape_of

# Volumes of 32 bits that are held at the most while a tomogram is made ready and trained on (measured: 21, 22 with halves).
IN_TRAINING = 24
# Sides of the smallest part, in patches.
LEAST = 2
# How often training is to come by a voxel: more parts are taken only while it does.
VISITS = 4


def in_training(config: RunConfig, device: torch.device) -> float:
    """Bytes that a training takes beside its tomogram: the program, and on a processor a batch with all that gradients need."""
    training = config.training
    batch = HELD * training.batch * bytes_of_tile(config.ladder, training.patch) if device.type == "cpu" else 0
    return memory.PROGRAM + batch


def within(tomograms: Tomograms, firsts: Sequence[Path], config: RunConfig, device: torch.device, budget: int) -> Tomograms:
    """The same, and of each that is too large parts of which one at a time keeps within ``budget`` bytes, as many as there is
    training for; a deterministic network takes all of them whole.

    firsts: a file of each, of its size. InputError if a part would be next to nothing.
    """
    if not config.objective.variational:
        return tomograms
    # What is free differs between ranks, and they must train on the same parts.
    budget = distributed.broadcast(budget)
    room = int((budget - in_training(config, device)) / (4 * IN_TRAINING))
    names: list[str] = []
    loads: list[Callable[[bool], Tomogram]] = []
    for index, (name, first) in enumerate(zip(tomograms.names, firsts, strict=True)):
        shape, load = shape_of(first), partial(tomograms.load, index)
        if prod(shape) <= room:
            names.append(name)
            loads.append(load)
            continue
        _check(name, room, config, device, budget)
        count = _count(shape, room, config, len(firsts))
        names += part_names(name, count)
        loads += _loads(load, room, config.training.patch, count)
    return Tomograms(names, lambda index, mapped: loads[index](mapped))


def _loads(load: Callable[[bool], Tomogram], room: int, side: int, count: int) -> list[Callable[[bool], Tomogram]]:
    """A function for each crop that loads it; the first call opens and scans the tomogram."""

    @cache
    def parts() -> Parts:
        crops = Parts(load(True), room, side, count)
        log.info("%s", _described(crops))
        return crops

    def part(number: int) -> Tomogram:
        # The checks may read a part before there is a log, which gets what they find.
        finding = Finding("memory", Severity.NOTE, _described(parts()))
        return replace(parts()[number], findings=(*parts().tomogram.findings, finding))

    return [lambda mapped, number=number: part(number) for number in range(count)]  # type: ignore[misc]


def _described(crops: Parts) -> str:
    """What is trained on, in one line."""
    shape, size = (" x ".join(str(n) for n in sizes) for sizes in (crops.shape, crops.tomogram.shape))
    parts = f"the {shape}" if len(crops) == 1 else f"{len(crops)} parts of about {shape}"
    return f"{crops.tomogram.name}: larger than memory, trained on {parts} of its {size} voxels that show most"


def _check(name: str, room: int, config: RunConfig, device: torch.device, budget: int) -> None:
    least = (LEAST * config.training.patch) ** 3
    if room < least:
        needed = in_training(config, device) + 4 * IN_TRAINING * least
        raise InputError(
            f"{name} is larger than memory, and {budget / 1e9:.2f} GB hold no part worth training on, expected at least "
            f"{needed / 1e9:.2f} GB for patches of {config.training.patch} voxels: give more --memory, or pass --model"
        )


def _count(shape: Sequence[int], room: int, config: RunConfig, tomograms: int) -> int:
    """Number of crops to train on, so that the training visits each voxel about VISITS times; at most the whole tomogram."""
    training = config.training
    drawn = training.steps * training.batch * distributed.count() * training.patch**3 / tomograms
    return max(min(int(drawn / (VISITS * room)), pieces_of(shape, room)), 1)
