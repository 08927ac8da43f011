"""Names of an earlier layout: streaming is decided in streaming.py, and restore.py restores either way."""

from __future__ import annotations

import torch

from cryovae.checkpoint import Checkpoint
from cryovae.config import RunConfig
from cryovae.tomogram import Tomogram
from cryovae.workflows.restore import restore_in
from cryovae.workflows.run_folder import RunFolder
from cryovae.workflows.streaming import is_streamed, shape_of

__all__ = ["is_streamed", "restore_streamed_in", "shape_of"]


def restore_streamed_in(
    folder: RunFolder, tomogram: Tomogram, checkpoint: Checkpoint, config: RunConfig, device: torch.device, budget: int,
    resume: bool = False,
) -> None:  # fmt: skip
    """``restore_in`` within ``budget`` bytes of memory."""
    restore_in(folder, tomogram, checkpoint, config, device, budget, resume)
