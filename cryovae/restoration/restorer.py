"""Restoration: a tomogram in, its posterior mean, standard deviation and samples out.

Means and samples come from a source: the flow, if the model has one and the settings ask for it, or the ladder (sources.py). They
are combined with the data (steps.py). All volumes lie in a storage, in memory or in files (storage.py).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from cryovae import distributed, fourier
from cryovae.calibration.scores import VOXELS, Subject
from cryovae.data.prepare import PreparedTomogram
from cryovae.errors import InputError
from cryovae.models.generator import Generator
from cryovae.models.ladder import Ladder
from cryovae.models.precision import halved, precision_of
from cryovae.phases import Phases
from cryovae.physics.wedge import volume_mask
from cryovae.posterior.flow_posterior import FlowPosterior
from cryovae.posterior.ladder_boxes import LadderBoxes, largest_box
from cryovae.posterior.patch_sampler import NoSignal
from cryovae.posterior.posterior_tiles import HELD
from cryovae.posterior.search import AMORTISED, FLOW, LANGEVIN
from cryovae.posterior.suited import suited
from cryovae.restoration.config import RestoreConfig
from cryovae.restoration.sources import FlowSource, ladder_source
from cryovae.restoration.steps import Restoration, Steps
from cryovae.restoration.storage import MemoryStorage, Storage
from cryovae.tiling.batching import free_on
from cryovae.tomogram import Tomogram

log = logging.getLogger("cryovae")
# Volumes of 32 bits that a GPU holds at once, spectra and their frequencies included (measured: 31, with a box of the ladder;
# NAME_measured has been added since).
GPU_VOLUMES = 35


class Restorer:
    """Applies a trained model to tomograms. Memory: a few volumes and one box of them, whatever the number of samples.

    Several ranks share the boxes of a ladder in memory, unless they are searched; all ranks have the result.

    Args:
        ladder: the model.
        patch: side of the patches of training, in voxels.
        config: the settings.
        device: where the model runs; volumes lie there too if all of them fit.
        watch: called with the patches of training that are done, and all of them.
        flow: the generative model that was fitted with the ladder; without one the samples are those of the ladder.
        box: voxels of a box of the ladder at most; None for as many as memory has room for.

    Attributes:
        phase: how long the phases of all restorations took.

    Raises:
        InputError: Langevin chains are asked for without a flow, or of a tomogram without a signal.
    """

    def __init__(
        self,
        ladder: Ladder,
        patch: int,
        config: RestoreConfig,
        device: torch.device | None = None,
        watch: Callable[[int, int], None] = lambda done, total: None,
        flow: Generator | None = None,
        box: float | None = None,
    ) -> None:
        if config.sampler == LANGEVIN and flow is None:
            raise InputError(f"--sampler {LANGEVIN} found, but no flow was fitted to the tomogram: pass --sampler {AMORTISED}")
        if config.sampler == FLOW and flow is None:
            config = amortised(config)
        self.ladder, self.patch, self.config, self.watch, self.flow = ladder, patch, config, watch, flow
        self._pretrained = ladder
        self.device = device or torch.device("cpu")
        is_shared = not config.search.any
        self.predictor = LadderBoxes(ladder, patch, self.device, config.seed, self._advance, is_shared, box)
        self.phase = Phases()
        self._done = self._total = 0
        self._sharers = 1

    def __call__(self, tomogram: Tomogram) -> Restoration:
        """Restore in memory."""
        device = torch.device("cpu") if self.config.search.any else held_on(self.device, tomogram.shape)
        return self.restore(tomogram, MemoryStorage(tomogram.shape, device))

    def restore(self, tomogram: Tomogram, storage: Storage, voxels: int = VOXELS) -> Restoration:
        """Restore into a storage, going on where an earlier run with the same storage ended.

        Args:
            tomogram: what is restored.
            storage: of all volumes.
            voxels: on which hidden bins are looked at, at most.
        """
        # Files are restored by one process alone: the others make no calls.
        self.predictor.shared = storage.is_shared and not self.config.search.any
        prepared = storage.prepare(tomogram, self.patch, self.config.seed)
        self.ladder = self.predictor.ladder = suited(self._pretrained, [prepared])
        with precision_of(self.ladder, mixed_on(self.config, self.device)):
            steps = self._steps(tomogram, storage, prepared, voxels)
            self._done = storage.patches_done()
            self._total = steps.source.patch_count(tomogram.shape, len(steps.halves))
            self._sharers = distributed.count() if storage.is_shared and self.predictor.shared else 1
            restoration = steps.run()
        self.watch(self._total, self._total)
        return restoration

    def _steps(self, tomogram: Tomogram, storage: Storage, prepared: PreparedTomogram, voxels: int) -> Steps:
        halves = None if tomogram.halves is None else (storage.volume("half1"), storage.volume("half2"))
        if self.flow is not None and self.config.by_flow:
            try:
                subject = Subject.of(prepared, halves, self.patch, voxels)
                source = self._flow_source(self.flow, prepared, subject)
                return Steps(source, self.config, tomogram, prepared, subject, storage, self.phase)
            except NoSignal as error:
                if self.config.sampler == LANGEVIN:
                    raise
                log.warning("%s by the flow; restored by the encoder", error)
        config = amortised(self.config) if self.config.sampler == FLOW else self.config
        subject = Subject.of(prepared, halves, self.patch, voxels, scaled=False)
        ladder = ladder_source(self.predictor, config, prepared)
        return Steps(ladder, config, tomogram, prepared, subject, storage, self.phase)

    def _flow_source(self, flow: Generator, prepared: PreparedTomogram, subject: Subject) -> FlowSource:
        config = self.config
        about = flow, self.ladder, self.patch, self.device, config.flow_steps, config.seed
        posterior = FlowPosterior(*about, advance=self._advance, search=config.search, mixed=mixed_on(config, self.device))
        return FlowSource(posterior, self.predictor, config, prepared, subject)

    def _advance(self, patches: int) -> None:
        # Other ranks are as far as this one.
        self._done += patches * self._sharers
        self.watch(min(self._done, self._total), self._total)


def amortised(config: RestoreConfig) -> RestoreConfig:
    """The settings with the samples of the encoder."""
    return replace(config, sampler=AMORTISED)


def mixed_on(config: RestoreConfig, device: torch.device) -> bool:
    """Whether convolutions run in bfloat16 there; never in a search or a chain, which compares values of the bound."""
    return halved(config.precision, device) and config.sampler in (AMORTISED, FLOW) and not config.refine


def held_on(device: torch.device, shape: Sequence[int]) -> torch.device:
    """Where the volumes of a restoration lie: on the GPU if it has room for all of them, else in memory."""
    has_room = device.type == "cuda" and 4 * GPU_VOLUMES * math.prod(shape) < free_on(device)
    return device if has_room else torch.device("cpu")


def refilled(
    ladder: Ladder, prepared: PreparedTomogram, patch: int, seed: int, device: torch.device, batch: int | None = None
) -> Tensor:
    """A standardised density whose wedge holds r's mean and noise like that of the data: y+ = M y + (1 - M)(x + n).

    On a processor a box takes no more memory than a ``batch`` of the training that it interrupts, if one is given.
    """
    where, tilts = held_on(device, prepared.density.shape), prepared.tilts
    data = prepared.density.to(where)
    voxels = largest_box(ladder.config, device)
    if device.type == "cpu" and batch is not None:
        voxels = min(voxels, HELD * batch * patch**3)
    predictor = LadderBoxes(ladder, patch, device, seed, shared=True, voxels=voxels)
    mean = predictor.predict(data, tilts)
    white = torch.randn(data.shape, generator=torch.Generator().manual_seed(seed)).to(where)
    noisy = mean + fourier.filtered(white, prepared.noise(fourier.frequencies(data.shape, where)).sqrt())
    return (noisy + fourier.filtered(data - noisy, volume_mask(data.shape, tilts, device=where))).cpu()
