"""Where the means and samples of a volume come from: the encoder of a ladder, a search of its posterior, or the flow.

A source writes standardised volumes into a storage: ``mean_NAME`` for each of its means but the average of samples, which the
steps of a restoration add up, and samples two at a time.
"""

# The docstrings of the methods of a source are those of Source.
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from torch import Tensor

from cryovae.calibration.scores import Subject, hidden_rotations
from cryovae.data.prepare import PreparedTomogram
from cryovae.physics.rotation import symmetry_rotations
from cryovae.posterior.early_stopping import early_stopping
from cryovae.posterior.flow_posterior import FlowPosterior, VolumeSamples
from cryovae.posterior.ladder_boxes import LadderBoxes
from cryovae.posterior.ladder_posterior import LadderPosterior
from cryovae.posterior.posterior_tiles import PosteriorTiles, PosteriorVolumes, frozen
from cryovae.posterior.search import AMORTISED, SearchRecord
from cryovae.posterior.volume_data import AVERAGE, COMPLETION, REFINED, VolumeData, VolumePosterior
from cryovae.restoration.config import RestoreConfig
from cryovae.restoration.storage import Storage

# Orientations over which the encoder's mean is averaged, for the tomogram, for each half and for hidden volumes.
ORIENTATIONS, HALF_ORIENTATIONS, HIDDEN_ORIENTATIONS = 2, 1, 1
# Orientations in which a half is searched at most.
MOST_PER_HALF = 2
# Samples of each half whose average is a mean.
HALF_SAMPLES = 4
# Variance of the noise of a half over that of the tomogram.
OF_HALF = 2.0


class Source(ABC):
    """Means and samples of the volumes of one restoration.

    Attributes:
        names: of its means.
        opposite: whether the samples of a pair have opposite noise.
        half_samples: samples of a half whose average is a mean.
        figures: for the record of the restoration, or None.
    """

    names: tuple[str, ...] = (COMPLETION,)
    opposite = True
    half_samples = 0
    figures: dict[str, object] | None = None

    @abstractmethod
    def patch_count(self, shape: tuple[int, int, int], halves: int) -> int:
        """The work in all, in patches of training, for a tomogram and so many restored halves; in a search, in tiles."""

    @abstractmethod
    def means(self, storage: Storage, of: str) -> None:
        """Write the means of the volume ``of``: "data", "half1" or "half2"."""

    @abstractmethod
    def pair(self, storage: Storage, of: str, number: int) -> None:
        """Write samples 2 ``number`` and 2 ``number`` + 1 of the volume of the last means into "plus" and "minus"."""

    @abstractmethod
    def posterior(self) -> VolumePosterior | None:
        """What restores volumes with hidden bins as this restores volumes; None if samples are not compared with those."""


class LadderSource(Source):
    """The encoder of a ladder.

    Args:
        predictor: applies the ladder to boxes.
        config: the settings.
        prepared: the tomogram.
    """

    def __init__(self, predictor: LadderBoxes, config: RestoreConfig, prepared: PreparedTomogram) -> None:
        self.predictor, self.config, self.prepared = predictor, config, prepared
        self.tilts = prepared.tilts

    def patch_count(self, shape: tuple[int, int, int], halves: int) -> int:
        orientations = len(symmetry_rotations(self.tilts))
        passes = self.config.samples // 2 + min(orientations, ORIENTATIONS) + halves * min(orientations, HALF_ORIENTATIONS)
        return passes * self.predictor.patches(shape)

    def means(self, storage: Storage, of: str) -> None:
        orientations = ORIENTATIONS if of == "data" else HALF_ORIENTATIONS
        storage.predict(self.predictor, of, f"mean_{COMPLETION}", self.tilts, orientations)

    def pair(self, storage: Storage, of: str, number: int) -> None:
        storage.sample(self.predictor, self.tilts, number)

    def posterior(self) -> VolumePosterior | None:
        predictor = self.predictor
        about = predictor.ladder, predictor.patch, predictor.device
        return LadderPosterior(*about, HIDDEN_ORIENTATIONS, self.config.seed)


class SearchSource(LadderSource):
    """A search of the posterior of a ladder, in memory.

    Args:
        predictor, config, prepared: as of ``LadderSource``.
        allowed: steps of refinement.
        figures: of its early stopping.
    """

    def __init__(
        self,
        predictor: LadderBoxes,
        config: RestoreConfig,
        prepared: PreparedTomogram,
        allowed: int,
        figures: dict[str, object],
    ) -> None:
        super().__init__(predictor, config, prepared)
        self.search = PosteriorTiles(predictor, config.search, allowed, config.batch)
        self.figures = figures
        self.opposite = config.sampler == AMORTISED
        self._volumes: PosteriorVolumes | None = None

    def patch_count(self, shape: tuple[int, int, int], halves: int) -> int:
        passes = len(self.search.orientations(self.tilts))
        passes += halves * min(passes, MOST_PER_HALF)
        return passes * len(self.search.grid(shape))

    def means(self, storage: Storage, of: str) -> None:
        search, samples, excess = self.search, self.config.samples, 1.0
        if of != "data":
            fewer = replace(search.config, orientations=min(MOST_PER_HALF, search.config.orientations))
            search, excess = PosteriorTiles(self.predictor, fewer, search.allowed, self.config.batch), OF_HALF
            samples = 0
        volumes = search.over(storage.volume(of), self.tilts, self.prepared.noise, samples, excess)
        storage.write(f"mean_{COMPLETION}", [volumes.mean])
        if of == "data":
            self._volumes, self.figures = volumes, (self.figures or {}) | volumes.figures

    def pair(self, storage: Storage, of: str, number: int) -> None:
        assert self._volumes is not None
        for name, sample in zip(("plus", "minus"), self._volumes.pair(number), strict=True):
            storage.write(name, [sample])

    def posterior(self) -> VolumePosterior | None:
        return None


def ladder_source(predictor: LadderBoxes, config: RestoreConfig, prepared: PreparedTomogram) -> LadderSource:
    """The encoder of a ladder, or a search if the settings ask for one and its early stopping allows a step."""
    search = config.search
    if not search.any:
        return LadderSource(predictor, config, prepared)
    allowed, record = search.refine, dict[str, object]()
    if search.refine:
        with frozen(predictor.ladder):
            stopping = early_stopping(predictor.ladder, prepared, predictor.patch, search.refine, config.seed, predictor.device)
        allowed = search.refine if stopping is None else stopping.allowed
        record = {"asked_steps": search.refine, "guard": None if stopping is None else stopping.figures()}
    if not allowed and search.sampler == AMORTISED:
        source = LadderSource(predictor, config, prepared)
        source.figures = record
        return source
    return SearchSource(predictor, config, prepared, allowed, record)


class FlowSource(Source):
    """The flow, with the ladder's estimate.

    Args:
        flow: both models.
        predictor: applies the ladder, where a volume is not in memory.
        config: the settings.
        prepared: the tomogram.
        subject: of its calibration.
    """

    opposite = False
    half_samples = HALF_SAMPLES

    def __init__(
        self,
        flow: FlowPosterior,
        predictor: LadderBoxes,
        config: RestoreConfig,
        prepared: PreparedTomogram,
        subject: Subject,
    ) -> None:
        self.flow, self.predictor, self.config, self.prepared = flow, predictor, config, prepared
        self.subject, self.scale = subject, subject.volume.scale
        # Without hidden bins nothing says what a refined mean is worth.
        self.calibrated = config.calibrate and not config.tempered
        self.names = FlowPosterior.names if self.calibrated else (COMPLETION, AVERAGE)
        self.record = SearchRecord()
        self.figures = self.record.figures(config.search, 0)
        self._volume = subject.volume
        self._drawing: VolumeSamples | None = None

    def patch_count(self, shape: tuple[int, int, int], halves: int) -> int:
        samples = self.config.samples + halves * self.half_samples
        return self.flow.patches(shape) * self._passes(1 + halves, samples) + (
            self._patches_of_hidden() if self.calibrated else 0
        )

    def _passes(self, volumes: int, samples: int) -> int:
        """How often all boxes are gone through for so many volumes, and so many samples of them in all."""
        return self.flow.passes_of_means(self.calibrated) * volumes + self.flow.passes_of_sample() * samples

    def _patches_of_hidden(self) -> int:
        """Patches of all volumes with hidden bins, and of the sample that fills their wedge."""
        z, y, x = shape = tuple(self.subject.volume.data.shape)
        rotations = hidden_rotations(self.prepared.tilts)
        shapes = [(z, y, x), *((shape[g.axes[0]], shape[g.axes[1]], shape[g.axes[2]]) for g in rotations)]
        # The conditions, and one sample.
        of_fill = self.flow.patches((z, y, x)) * (1 + self._passes(0, 1)) if rotations else 0
        return of_fill + sum(self.flow.patches(one) for one in shapes) * self._passes(1, self.flow.hidden_samples)

    def means(self, storage: Storage, of: str) -> None:
        noise, target = self.prepared.noise, f"mean_{COMPLETION}"
        excess = 1.0 if of == "data" else OF_HALF
        data = storage.volume(of)
        data = data.cpu() if isinstance(data, Tensor) else data
        volume = VolumeData(data, self.prepared.tilts, lambda k: excess * noise(k), self.scale)
        if storage.folder is None:
            storage.write(target, [self.flow.estimate(volume)])
        else:
            storage.predict(self.predictor, of, target, self.prepared.tilts, 1)
        self._volume, self._drawing = volume, None
        if REFINED in self.names:
            self._write(storage, f"refined mean of {of}", VolumeSamples.refined_latents, f"mean_{REFINED}")

    def pair(self, storage: Storage, of: str, number: int) -> None:
        for sample, target in ((2 * number, "plus"), (2 * number + 1, "minus")):
            name = f"sample {sample} of {of}"
            self._write(storage, name, partial(VolumeSamples.latents, number=sample), target)
            if self.flow.search is not None and of == "data":
                climb, moved = storage.once(f"chain of {name}", self._last_chain)
                self.record.climbs += [] if climb is None else [climb]
                self.record.moved += [] if moved is None else [moved]
        self.figures = self.record.figures(self.config.search, 0)

    def _last_chain(self) -> list[float | None]:
        """How far the last chain came, as in ``SearchRecord``; unknown if a run was stopped between it and this."""
        chains = None if self._drawing is None else self._drawing.chains
        return [None, None] if chains is None else [chains.climb, chains.moved]

    def posterior(self) -> VolumePosterior | None:
        # Hidden bins would bring a tempered posterior back to the Bayes posterior.
        return self.flow if self.calibrated else None

    def _write(self, storage: Storage, name: str, latents: Callable[[VolumeSamples], Tensor], target: str) -> None:
        """Write the density of what ``latents`` are drawn, unless an earlier run did."""
        if storage.has(name):
            return
        if self._drawing is None:
            self._drawing = self.flow.samples(self._volume, storage.volume(f"mean_{COMPLETION}"), storage.folder)
        storage.decode(name, self._drawing, latents(self._drawing), target)
