"""Restoration by the generative model: samples of the posterior of the whole tomogram, and the mean that predicts best.

    x = sum_i w_i x_i           x_i the ladder's mean, the flow's predicted mean, the average of its samples; w_i >= 0
    x^s = x + c (s - < s >)     c^2 the factor on the variance of samples, by shell

Weights, factors and amplitudes come from held-out bins (calibration/): one fit in the wedge, one in measured bins, where a part
of the data may stay in the mean. No error there is larger than the noise of the data. All volumes are in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cryovae import fourier
from cryovae.calibration.factors import Factors, at, figures, fit, stacked
from cryovae.calibration.hidden_bins import FULL, SHELL_WIDTH, SHELLS, MeanSums
from cryovae.calibration.scores import (
    SAMPLES,
    HeldOutSums,
    averaging_more,
    held_out_sums,
    hidden_rotations,
    means_and_samples,
    weights_by_name,
)
from cryovae.data.prepare import PreparedTomogram, prepare
from cryovae.physics.wedge import volume_mask
from cryovae.posterior.flow_posterior import FlowPosterior, VolumeData
from cryovae.restoration.config import RestoreConfig
from cryovae.restoration.moments import WedgePower, smoothed_std
from cryovae.restoration.steps import Restoration
from cryovae.tomogram import Tomogram

# Samples of each half.
HALF_SAMPLES = 4


@dataclass(frozen=True)
class Part:
    """How a kind of bins, those of the wedge or the measured ones, is restored.

    Attributes:
        weights: of the means, (means,).
        factors: of amplitude, variance and data.
    """

    weights: Tensor
    factors: Factors

    @staticmethod
    def fitted(sums: MeanSums, blend: bool) -> Part:
        """The part that fits held-out bins; ``blend`` as in ``fit``."""
        weights = stacked(sums)
        return Part(weights, fit(sums.of(weights), blend))

    @staticmethod
    def plain() -> Part:
        """The average of the samples, without any fit."""
        return Part(torch.tensor([0.0, 0.0, 1.0]), Factors.none())


class FlowRestorer:
    """Restores tomograms in memory.

    Args:
        posterior: the models.
        patch: side of the patches of the ladder's training, in voxels, which are held out.
        config: the settings.
        watch: called with the tiles that are done, and all tiles.
    """

    def __init__(
        self,
        posterior: FlowPosterior,
        patch: int,
        config: RestoreConfig,
        watch: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self.posterior, self.patch, self.config, self.watch = posterior, patch, config, watch
        posterior.advance = self._advance
        self._done = self._total = 0

    def __call__(self, tomogram: Tomogram) -> Restoration:
        """Restore. InputError if the tomogram holds no signal above its noise."""
        config = self.config
        prepared = prepare(tomogram, self.patch, config.seed)
        volume = VolumeData.of(prepared)
        halves = None if tomogram.halves is None else (prepared.ready(tomogram.halves[0]), prepared.ready(tomogram.halves[1]))
        self._total = self._tile_count(volume, halves is not None)
        means, samples = means_and_samples(self.posterior, volume, config.samples)
        held_out = None
        if config.calibrate:
            held_out = held_out_sums(self.posterior, prepared, volume, halves, samples[0], self.patch, seed=config.seed)
        wedge, measured = _parts(held_out, config.samples)
        mask = volume_mask(volume.data.shape, volume.tilts)
        measured = _bounded(measured, samples, mask, volume)
        if config.raw:
            none = torch.zeros_like(measured.factors.weight)
            measured = replace(measured, factors=replace(measured.factors, weight=none))
        mean = _mean(means, volume.data, mask, (wedge, measured))
        drawn = _spread(samples, mean, mask, (wedge, measured))
        restored_halves = None
        if halves is not None and config.halves:
            first, second = (self._half(half, volume, mask, held_out) for half in halves)
            restored_halves = (first, second)
        self.watch(self._total, self._total)
        return self._restoration(tomogram, prepared, mean, drawn, restored_halves, held_out, (wedge, measured))

    def _half(self, half: Tensor, volume: VolumeData, mask: Tensor, held_out: HeldOutSums | None) -> Tensor:
        """The mean of one half, whose noise has twice the variance."""

        def twice(frequency: Tensor) -> Tensor:
            return 2 * volume.noise(frequency)

        data = VolumeData(half, volume.tilts, twice, volume.scale)
        means, _ = means_and_samples(self.posterior, data, HALF_SAMPLES)
        return _mean(means, half, mask, _parts(held_out, HALF_SAMPLES, noise=2.0))

    def _restoration(
        self,
        tomogram: Tomogram,
        prepared: PreparedTomogram,
        mean: Tensor,
        samples: Sequence[Tensor],
        halves: tuple[Tensor, Tensor] | None,
        held_out: HeldOutSums | None,
        parts: tuple[Part, Part],
    ) -> Restoration:
        config, fill = self.config, tomogram.fill
        std = smoothed_std(torch.stack([(sample - mean).square() for sample in samples]).mean(0))
        if fill is not None:
            std[torch.from_numpy(fill[:])] = 0.0

        def grey(density: Tensor, source: int = 0) -> Tensor:
            values = density * prepared.scale + prepared.mean
            return values if fill is None else torch.from_numpy(fill.kept(values.numpy(), source))

        return Restoration(
            mean=grey(mean),
            std=std * prepared.scale,
            samples=[grey(sample) for sample in samples[: config.samples_out]],
            halves=None if halves is None else (grey(halves[0], 1), grey(halves[1], 2)),
            figures=_wedge_power(mean, prepared),
            held_out=None if held_out is None else _figures(held_out, parts, config.samples),
            search={"sampler": config.sampler, "temperature": 1.0, "tempered": False},
        )

    def _tile_count(self, volume: VolumeData, has_halves: bool) -> int:
        """Tiles that the flow and the decoder see in all."""
        config, tiles = self.config, self.posterior.tiles(tuple(volume.data.shape))  # type: ignore[arg-type]
        volumes, samples = 1, config.samples
        if config.calibrate:
            problems = len(hidden_rotations(volume.tilts)) + 1
            volumes, samples = volumes + problems, samples + problems * SAMPLES
        if has_halves and config.halves:
            volumes, samples = volumes + 2, samples + 2 * HALF_SAMPLES
        # The conditions; the predicted latents and their density; the steps of a sample and its density.
        return tiles * (3 * volumes + (2 * self.posterior.steps + 1) * samples)

    def _advance(self, tiles: int) -> None:
        self._done += tiles
        self.watch(min(self._done, self._total), self._total)


def _parts(held_out: HeldOutSums | None, samples: int, noise: float = 1.0) -> tuple[Part, Part]:
    """How the wedge and measured bins are restored from ``samples``; noise: variance over that of the tomogram."""
    if held_out is None:
        return Part.plain(), Part.plain()
    wedge = Part.plain() if held_out.wedge is None else Part.fitted(averaging_more(held_out.wedge, samples), blend=False)
    measured = Part.fitted(averaging_more(held_out.measured, samples), blend=True)
    # Held-out observations of measured bins have noise of twice the variance.
    return wedge, Part(measured.weights, measured.factors.at_noise(noise / 2))


def _bounded(measured: Part, samples: Sequence[Tensor], mask: Tensor, volume: VolumeData) -> Part:
    """Measured bins of which no variance is above that of the noise: the data alone say so much."""
    shape = volume.data.shape
    average = torch.stack(list(samples)).mean(0)
    variance = sum((fourier.transform(sample - average).abs().square() for sample in samples), torch.zeros(mask.shape))
    bins = (mask > FULL) * fourier.multiplicity(shape)
    terms = torch.stack((bins * volume.noise(fourier.frequencies(shape)), bins * variance / (len(samples) - 1)))
    shell = (fourier.radius(shape) / SHELL_WIDTH).long().clamp(max=SHELLS)
    noise, spread = fourier.shell_sums(terms, shell, SHELLS + 1)[:, :SHELLS]
    most = torch.where(spread > 0, noise / spread.clamp_min(1e-12), torch.full_like(noise, torch.inf)).float()
    return replace(measured, factors=replace(measured.factors, scale=torch.minimum(measured.factors.scale, most)))


def _mean(means: Sequence[Tensor], data: Tensor, mask: Tensor, parts: tuple[Part, Part]) -> Tensor:
    """The mean (z, y, x) of the wedge where the mask is 0, that of measured bins where it is 1."""
    radius = fourier.radius(data.shape)
    spectra = [fourier.transform(mean) for mean in means]
    total = torch.zeros_like(spectra[0])
    for part, share in zip(parts, (1 - mask, mask), strict=True):
        mean = torch.stack([float(weight) * spectrum for weight, spectrum in zip(part.weights, spectra, strict=True)]).sum(0)
        mean = mean * at(part.factors.amplitude, radius)
        weight = at(part.factors.weight, radius)
        total += share * (mean + weight * (fourier.transform(data) - mean))
    # Every tilt measures the mean of the volume.
    total[0, 0, 0] = fourier.transform(data)[0, 0, 0]
    return fourier.inverse(total, data.shape)


def _spread(samples: Sequence[Tensor], mean: Tensor, mask: Tensor, parts: tuple[Part, Part]) -> list[Tensor]:
    """The samples about the mean, with the variance that fits held-out bins."""
    radius, average = fourier.radius(mean.shape), torch.stack(list(samples)).mean(0)
    wedge, measured = (at(part.factors.scale, radius).sqrt() for part in parts)
    # Deviations from the average of few samples are too small.
    factor = (wedge + mask * (measured - wedge)) * (len(samples) / (len(samples) - 1)) ** 0.5
    factor[0, 0, 0] = 0.0
    return [mean + fourier.filtered(sample - average, factor) for sample in samples]


def _figures(held_out: HeldOutSums, parts: tuple[Part, Part], samples: int) -> dict[str, object]:
    """Figures for the record of a restoration: those of the wedge, and of measured bins by themselves."""
    shared: dict[str, object] = {"patches": held_out.patches, "held_out_share": held_out.share, "trained_on": held_out.trained_on}
    measured = averaging_more(held_out.measured, samples).of(parts[1].weights)
    of_measured = figures(measured, parts[1].factors) | {"mean": weights_by_name(parts[1].weights)}
    if held_out.wedge is None:
        return shared | {"measured": of_measured}
    wedge = averaging_more(held_out.wedge, samples).of(parts[0].weights)
    return figures(wedge, parts[0].factors) | shared | {"mean": weights_by_name(parts[0].weights), "measured": of_measured}


def _wedge_power(mean: Tensor, prepared: PreparedTomogram) -> dict[str, float]:
    shape = tuple(mean.shape)
    power = WedgePower(fourier.multiplicity(shape))
    restored, data = fourier.transform(mean), fourier.transform(prepared.density)
    power.add(fourier.frequencies(shape), volume_mask(shape, prepared.tilts), restored, data)
    return power.figures()
