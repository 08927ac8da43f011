"""Inputs of a diagnosis: the model of a run, its training settings, and its tomogram prepared as in the training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from cryovae.checkpoint import MODEL, Checkpoint
from cryovae.checks.model_match import tell_match
from cryovae.config import RunConfig, merged
from cryovae.data.prepare import PreparedTomogram, prepare
from cryovae.errors import InputError
from cryovae.posterior.suited import suited
from cryovae.workflows.run_inputs import checked_tomogram_of, record_of, variational_model_of
from cryovae.workflows.train import MOST_HELD_OUT


@dataclass(frozen=True)
class Diagnosed:
    """The inputs of a diagnosis.

    Attributes:
        name: of the tomogram.
        checkpoint: the model.
        config: settings of the training.
        prepared: the tomogram, prepared as in the training.
        voxel_size: in angstrom.
        foreign: whether the model was trained on other tomograms.
        fills: whether the own wedge of its inputs was filled in the training.
    """

    name: str
    checkpoint: Checkpoint
    config: RunConfig
    prepared: PreparedTomogram
    voxel_size: float
    foreign: bool
    fills: bool


def diagnosed_run(run: Path, voxel_size: float | None, device: torch.device, force: bool = False) -> Diagnosed:
    """Open a run folder. InputError if it has no model with latents, no tomogram, or a record of unknown settings."""
    checkpoint = variational_model_of(run)
    config = training_config_of(run)
    tomogram = checked_tomogram_of(run, voxel_size, force)
    tell_match(checkpoint.trained_on, tomogram)
    parts = f"{tomogram.name} part "
    foreign = bool(checkpoint.noise) and not any(n == tomogram.name or n.startswith(parts) for n in checkpoint.noise)
    prepared = prepare(tomogram, checkpoint.patch, config.training.seed, not foreign, config.masking)
    if len(checkpoint.noise) > 1:
        prepared = replace(prepared, held_out=prepared.held_out[: max(MOST_HELD_OUT // len(checkpoint.noise), 1)])
    fills = config.objective.refill_from < 1 and prepared.tilts.has_wedge and config.masking.hide
    checkpoint = replace(checkpoint, ladder=suited(checkpoint.ladder, [prepared]))
    checkpoint.ladder.to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return Diagnosed(tomogram.name, checkpoint, config, prepared, tomogram.voxel_size, foreign, fills)


def training_config_of(run: Path) -> RunConfig:
    """The settings that the model of a run was trained by; those of the run itself if the model's own record is gone."""
    record = record_of(run)
    if not (run / MODEL).is_file() and record.get("model"):
        where = Path(record["model"])
        where = where if where.is_dir() else where.parent
        if (where / "run.json").is_file():
            record = record_of(where)
    try:
        return merged(RunConfig(), record.get("config", {}), f"run.json of {run}")
    except InputError as error:
        raise InputError(f"{error}; the run is of another version of cryovae") from error
