"""Restoration: a tomogram in, its posterior mean, standard deviation and samples out.

    x = 1/4 sum_g g^-1 G( E_r[ z | g u ] )             mean: of r's means, in four orientations g that keep the wedge
    z^s ~ r(z | u),  x^s = G(z^s)                      samples about it;         std^2 = < (x^s - < x^s >)^2 >

The model is applied tile by tile (posterior/tiles.py). Mean and samples are then made data-consistent (data_consistency.py). The
steps are in steps.py. All volumes lie in a storage, in memory or in files (storage.py). A search of the posterior
(posterior/posterior_tiles.py) replaces the mean and the samples of r by those of a refined or sampled posterior, in memory only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from cryovae import distributed, fourier
from cryovae.data.prepare import PreparedTomogram
from cryovae.models.ladder import Ladder
from cryovae.models.precision import halved, precision_of
from cryovae.physics.wedge import volume_mask
from cryovae.posterior.search import AMORTISED, FLOW
from cryovae.posterior.tiles import TilePredictor
from cryovae.restoration.config import RestoreConfig
from cryovae.restoration.steps import Restoration, Steps
from cryovae.restoration.storage import MemoryStorage, Storage
from cryovae.tiling.batching import free_on
from cryovae.tomogram import Tomogram

# Volumes of 32 bits that a GPU holds at once, spectra and their frequencies included (measured: 31, with tiles).
GPU_VOLUMES = 34


class Restorer:
    """Applies a trained ladder to tomograms. Memory: a few volumes and a batch of tiles, whatever the number of samples.

    Several ranks share the tiles of a restoration in memory, unless they are searched; all ranks have the result.

    Args:
        ladder: the model.
        patch: side of the patches of training, in voxels.
        config: the settings; with the sampler 'flow' samples are those of the ladder.
        device: where the model runs; volumes lie there too if all of them fit.
        watch: called with the tiles that are done, and all tiles.
    """

    def __init__(
        self,
        ladder: Ladder,
        patch: int,
        config: RestoreConfig,
        device: torch.device | None = None,
        watch: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        if config.sampler == FLOW:
            # A ladder has no flow: restorers.py.
            config = replace(config, sampler=AMORTISED)
        self.ladder, self.patch, self.config, self.watch = ladder, patch, config, watch
        self.device = device or torch.device("cpu")
        is_shared = not config.search.any
        self.predictor = TilePredictor(ladder, patch, config.batch, config.seed, self.device, self._advance, shared=is_shared)
        self._done = self._total = 0
        self._sharers = 1

    def __call__(self, tomogram: Tomogram) -> Restoration:
        """Restore in memory."""
        device = torch.device("cpu") if self.config.search.any else held_on(self.device, tomogram.shape)
        return self.restore(tomogram, MemoryStorage(tomogram.shape, device))

    def restore(self, tomogram: Tomogram, storage: Storage) -> Restoration:
        """Restore into a storage, going on where an earlier run with the same storage ended."""
        with precision_of(self.ladder, mixed_on(self.config, self.device)):
            steps = Steps(self.predictor, self.patch, self.config, tomogram, storage)
            self._done, self._total = storage.tiles_done(), steps.tile_count()
            self._sharers = distributed.count() if storage.is_shared and self.predictor.shared else 1
            restoration = steps.run()
        self.watch(self._total, self._total)
        return restoration

    def _advance(self, tiles: int) -> None:
        # Other ranks are as far as this one.
        self._done += tiles * self._sharers
        self.watch(min(self._done, self._total), self._total)


def mixed_on(config: RestoreConfig, device: torch.device) -> bool:
    """Whether convolutions run in bfloat16 there; never in a search, which compares values of the bound."""
    return halved(config.precision, device) and not config.search.any


def held_on(device: torch.device, shape: Sequence[int]) -> torch.device:
    """Where the volumes of a restoration lie: on the GPU if it has room for all of them, else in memory."""
    has_room = device.type == "cuda" and 4 * GPU_VOLUMES * math.prod(shape) < free_on(device)
    return device if has_room else torch.device("cpu")


def refilled(ladder: Ladder, prepared: PreparedTomogram, patch: int, seed: int, device: torch.device) -> Tensor:
    """A standardised density whose wedge holds r's mean and noise like that of the data: y+ = M y + (1 - M)(x + n)."""
    where, tilts = held_on(device, prepared.density.shape), prepared.tilts
    data = prepared.density.to(where)
    predictor = TilePredictor(ladder, patch, RestoreConfig().batch, seed, device, lambda tiles: None, shared=True)
    mean = predictor.predict(data, tilts)
    white = torch.randn(data.shape, generator=torch.Generator().manual_seed(seed)).to(where)
    noisy = mean + fourier.filtered(white, prepared.noise(fourier.frequencies(data.shape, where)).sqrt())
    return (noisy + fourier.filtered(data - noisy, volume_mask(data.shape, tilts, device=where))).cpu()
