"""Restoring in memory: by the flow where the model has one and the settings ask for it, else by the ladder."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch

from cryovae.models.generator import Generator
from cryovae.models.ladder import Ladder
from cryovae.posterior.flow_posterior import TILE, FlowPosterior
from cryovae.posterior.patch_sampler import NoSignal
from cryovae.posterior.search import FLOW
from cryovae.restoration.config import RestoreConfig
from cryovae.restoration.flow_restorer import FlowRestorer
from cryovae.restoration.restorer import Restorer
from cryovae.restoration.steps import Restoration
from cryovae.tomogram import Tomogram

Model = tuple[Ladder, int, Generator | None]
log = logging.getLogger("cryovae")


def restored(
    tomogram: Tomogram,
    model: Model,
    config: RestoreConfig,
    device: torch.device,
    watch: Callable[[int, int], None] = lambda done, total: None,
) -> Restoration:
    """Restore a tomogram in memory.

    Args:
        tomogram: the tomogram.
        model: the trained ladder; the side of the patches of its training, in voxels; and the generative model that was fitted
            with it, None to restore by the ladder alone.
        config: the settings.
        device: where the models run.
        watch: called with the tiles that are done, and all tiles.
    """
    ladder, patch, flow = model
    if flow is not None and config.sampler == FLOW:
        posterior = FlowPosterior(flow, ladder, TILE, patch, device, config.flow_steps, config.seed)
        try:
            return FlowRestorer(posterior, patch, config, watch)(tomogram)
        except NoSignal as error:
            log.warning("%s by the flow; restored by the encoder", error)
    return Restorer(ladder, patch, config, device, watch)(tomogram)
