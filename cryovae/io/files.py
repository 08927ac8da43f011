"""Volumes by path, whatever their format: MRC, plain or compressed, under any name."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from cryovae.io.mrc.reading import provenance_of_mrc, read_mrc
from cryovae.io.mrc.writing import write_mrc
from cryovae.io.volume import Provenance, Volume
from cryovae.tomogram import InputError

log = logging.getLogger("cryovae")


def read_volume(path: Path | str, number: int | None = None) -> Volume:
    """Open a volume; voxels are read when they are used, unless they are compressed. ``number`` (from 1) chooses one of a stack.

    InputError, one line, if it is missing, damaged, an image, or of a kind that is not read.
    """
    return read_mrc(Path(path), number)


def write_volume(path: Path, density: np.ndarray, source: Path | str | None, voxel_size: float, note: str) -> None:
    """Write a (z, y, x) density, with what the file ``source`` says of its place and history, and ``note`` as one line more."""
    write_mrc(Path(path), density, Provenance() if source is None else provenance_of(Path(source)), voxel_size, note)


def provenance_of(source: Path) -> Provenance:
    """What a restored volume takes over from its input; nothing, and a line in the log, if that is no longer there."""
    try:
        return provenance_of_mrc(source)
    except InputError as error:
        # Hours of work end in this write: better a volume without its origin than none.
        log.warning("origin and labels of the input could not be taken over: %s", error)
        return Provenance()
