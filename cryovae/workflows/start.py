"""The network that a training begins with, or that restores at once: random weights, the package's, or another trained one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from cryovae.checkpoint import BASE_LADDER, MODEL, Checkpoint
from cryovae.config import RunConfig
from cryovae.errors import InputError
from cryovae.models.ladder_config import LadderConfig
from cryovae.objectives.elbo import VAE
from cryovae.workflows.adapt import open_checkpoint
from cryovae.workflows.run_folder import checksum, read_record

NONE, BASE = "none", "base"
# What a model of random weights began with, in tables of results.
RANDOM = "random"
# Settings that are those of a network that training begins with.
LADDER = tuple(f"ladder.{one.name}" for one in fields(LadderConfig))


@dataclass(frozen=True)
class Start:
    """A trained network to begin with.

    Attributes:
        name: 'base', or the path that was given.
        network: the network.
        path: its file, or the folder of its run.
        sha256: of the file.
        trains: whether it is trained further in any case, because the user named a number of steps.
        is_default: whether nothing was said; then training begins with nothing if it predicts hidden data worse than clipping.
    """

    name: str
    network: Checkpoint
    path: Path
    sha256: str
    trains: bool = False
    is_default: bool = False

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


def default_start(config: RunConfig) -> Start | None:
    """The network that a training begins with without --from: the base if the settings have its sizes and objective, or None.

    With 200 steps it was better on five simulated sets than random weights with 800 (docs/guide/settings.md).
    """
    if config.objective.name != VAE or config.objective.encoders != 2:
        return None
    start = start_of(BASE, True)
    fits = start is not None and start.network.ladder.config == config.ladder
    return replace(start, is_default=True) if start is not None and fits else None


def continued(config: RunConfig, start: Start, names: Callable[[str], bool] = lambda key: False) -> RunConfig:
    """The settings of a training that begins with a network: its sizes, and patches that fit them.

    Args:
        config: the settings.
        start: the network.
        names: whether the user named a setting, as ``section.key``.

    Raises:
        InputError: the objective has another number of encoders, or the user named a size of the network.
    """
    if named := [key for key in LADDER if names(key)]:
        raise InputError(f"{named[0]} found with --from {start.name}, whose sizes are kept: leave one of them out")
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


def start_of_model(path: Path) -> str | None:
    """With what the training of a model began: 'base', the path of another model, or 'random'; None if no record says it.

    Args:
        path: the model, or its run folder.
    """
    if path == BASE_LADDER:
        return BASE
    folder = path if path.is_dir() else path.parent
    record = read_record(folder / "run.json") if path in (folder, folder / MODEL) else {}
    if "start" not in record or record.get("model"):
        return None
    return RANDOM if record["start"] is None else str(record["start"]["name"])
