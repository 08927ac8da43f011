"""What a restoration or a training begins with: nothing, the network that comes with the package, or a trained model."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cryovae.checkpoint import BASE_LADDER, MODEL, Checkpoint
from cryovae.config import RunConfig
from cryovae.errors import InputError
from cryovae.tomogram import Tomogram
from cryovae.workflows.adapt import open_checkpoint
from cryovae.workflows.run_folder import checksum, log

NONE, BASE = "none", "base"
# Voxel sizes of the scenes that the base was trained on, in angstrom.
VOXEL_SIZES = (6.0, 16.0)


@dataclass(frozen=True)
class Start:
    """A trained network to begin with.

    Attributes:
        name: 'base', or the path that was given.
        network: the network.
        path: its file, or the folder of its run.
        sha256: of the file.
        trains: whether it is trained further in any case, because the user named a number of steps.
    """

    name: str
    network: Checkpoint
    path: Path
    sha256: str
    trains: bool = False

    def record(self) -> dict[str, Any]:
        """The entry in run.json."""
        return {"name": self.name, "sha256": self.sha256}


def start_of(text: str | None, trains: bool) -> Start | None:
    """What ``--from`` names. InputError if there is no such model, or it is no variational one."""
    if text is None or text == NONE:
        return None
    path = BASE_LADDER if text == BASE else Path(text)
    if not path.exists():
        raise InputError(f"--from {text} found, expected {BASE}, {NONE}, or a model or its run folder: there is no {path}")
    return Start(text, open_checkpoint(path), path, checksum(path / MODEL if path.is_dir() else path), trains)


def continued(config: RunConfig, start: Start) -> RunConfig:
    """The settings of a training that begins with a network: its sizes, and patches that fit them.

    Raises:
        InputError: the objective has another number of encoders.
    """
    network, objective = start.network, config.objective
    if not objective.variational:
        raise InputError(f"--from {start.name} found with objective {objective.name}, expected vae or wae: it is a ladder")
    if network.encoders != objective.encoders:
        raise InputError(
            f"--from {start.name} has {network.encoders} encoder(s), --encoders {objective.encoders} found, expected the same"
        )
    patch, stride = config.training.patch, network.ladder.config.stride
    fits = patch % stride == 0 and patch >= 2 * stride
    training = config.training if fits else replace(config.training, patch=network.patch)
    return replace(config, ladder=network.ladder.config, training=training)


def warn_of_scale(start: Start, tomogram: Tomogram) -> None:
    """Print a line if the voxel size is outside of those that the base has seen."""
    low, high = VOXEL_SIZES
    if start.name == BASE and not low <= tomogram.voxel_size <= high:
        line = (
            f"{tomogram.name}: voxel size of {tomogram.voxel_size:.4g} angstrom found, {low:g} to {high:g} in what the base was "
            "trained on: structures have other sizes in voxels than it knows"
        )
        print(line, file=sys.stderr)
        log.warning("%s", line)
