"""Hidden bins: volumes of which some bins were measured but are hidden from the model, and what it makes of them.

    in the wedge    u = M R y+                        y+ the data, their wedge filled by a sample and noise; R brings measured
                                                      bins into the wedge, where they are hidden from the model
    measured bins   y + a n',   y - n' / a            two observations; n' is noise of the spectrum of the data: half the
                                                      difference of the halves, if there are any. The model sees the first

The noises of the two observations are independent, of 1 + a^2 and 1 + 1 / a^2 times the variance (Oliveira et al. 2022, "Unbiased
risk estimation in the normal means problem"; Pang et al. 2021, "Recorrupted-to-Recorrupted"). The model restores both as it
restores a tomogram. What is compared is the part in the hidden bins, shell by shell, over all voxels with data.

A model that has learned its training voxels by heart errs more where it was not trained. Held-out regions, which training never
scored, show it: errors there, over those that the samples expect there, are compared with the same ratio elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement

import torch
from torch import Tensor

from cryovae import fourier
from cryovae.physics.observation import NoiseFunction
from cryovae.physics.rotation import IDENTITY, CubeRotation, rotated_frequencies
from cryovae.physics.wedge import volume_edge, volume_mask, wedge_mask
from cryovae.tomogram import TiltGeometry

SHELLS = 20
SHELL_WIDTH = 0.5 / SHELLS
# Cycles per voxel between which means are weighed, likelihoods computed and regions compared.
FITTED = (0.01, 0.3)
# Cycles per voxel between which figures are computed, as the report says.
BAND = (0.01, 0.2)
# a^2: the smaller, the more the first observation is like the data, and the noisier the second.
ADDED_NOISE = 0.25
# Mask below which a bin counts as hidden, and above which it counts as measured.
EMPTY, FULL = 0.01, 0.99
# Voxels that are kept of a shell, for the coverage.
KEPT = 4000


def shell_centres() -> Tensor:
    """|k| at the centres of the shells, in cycles per voxel."""
    return (torch.arange(SHELLS) + 0.5) * SHELL_WIDTH


@dataclass(frozen=True)
class HiddenVolume:
    """A volume to be restored, and what is compared with it.

    Attributes:
        data: what the model sees, (z, y, x), standardised.
        noise: sigma^2 of ``data``.
        target: what was measured, (z, y, x), with noise of the variance ``target_noise``.
        target_noise: (z, y, x // 2 + 1).
        bins: 1 in the bins that are compared, else 0, (z, y, x // 2 + 1).
        rotation: of the frame of the tomogram into that of ``data``.
    """

    data: Tensor
    noise: NoiseFunction
    target: Tensor
    target_noise: Tensor
    bins: Tensor
    rotation: CubeRotation = IDENTITY


def with_hidden_wedge(
    data: Tensor, tilts: TiltGeometry, noise: NoiseFunction, fill: Tensor, rotation: CubeRotation, generator: torch.Generator
) -> HiddenVolume:
    """The data of a tomogram, rotated, with the bins that come to lie in the wedge hidden.

    Args:
        data: y, (z, y, x), standardised.
        tilts: the tilt geometry.
        noise: sigma^2.
        fill: of the wedge of the data, (z, y, x), without noise.
        rotation: R.
        generator: of the noise of what is filled in.
    """
    k = fourier.frequencies(data.shape)
    noisy = fill + fourier.filtered(torch.randn(data.shape, generator=generator), noise(k).sqrt())
    target = rotation(noisy + fourier.filtered(data - noisy, volume_mask(data.shape, tilts)))
    mask = volume_mask(target.shape, tilts)
    rotated = rotated_frequencies(fourier.frequencies(target.shape), rotation.matrix)
    measured = wedge_mask(rotated, tilts, volume_edge(data.shape, tilts))
    bins = ((mask < EMPTY) & (measured > FULL)) * fourier.below_nyquist(target.shape)

    def rotated_noise(frequency: Tensor) -> Tensor:
        return noise(rotated_frequencies(frequency, rotation.matrix))

    return HiddenVolume(fourier.filtered(target, mask), rotated_noise, target, noise(rotated), bins, rotation)


def with_more_noise(data: Tensor, more: Tensor, tilts: TiltGeometry, noise: NoiseFunction) -> HiddenVolume:
    """The data with more noise, to be compared with the data less that noise.

    Args:
        data: y, (z, y, x), standardised.
        more: n', (z, y, x), as of ``noise_like``.
        tilts: the tilt geometry.
        noise: sigma^2.
    """
    mask, added = volume_mask(data.shape, tilts), ADDED_NOISE**0.5
    bins = (mask > FULL) * fourier.below_nyquist(data.shape)
    bins[0, 0, 0] = 0.0

    def seen(frequency: Tensor) -> Tensor:
        return (1 + ADDED_NOISE) * noise(frequency)

    target_noise = (1 + 1 / ADDED_NOISE) * noise(fourier.frequencies(data.shape))
    return HiddenVolume(data + added * more, seen, data - more / added, target_noise, bins)


def noise_like(
    data: Tensor, halves: tuple[Tensor, Tensor] | None, tilts: TiltGeometry, noise: NoiseFunction, generator: torch.Generator
) -> Tensor:
    """Noise (z, y, x) like that of the data and independent of it: half the difference of the halves, or drawn."""
    if halves is not None:
        return (halves[0] - halves[1]) / 2
    amplitude = noise(fourier.frequencies(data.shape)).sqrt() * volume_mask(data.shape, tilts)
    return fourier.filtered(torch.randn(data.shape, generator=generator), amplitude)


@dataclass(frozen=True)
class ShellSums:
    """Sums over hidden bins by shell, float64, of products of the target y, a mean x and what the model saw, a.

    Attributes:
        count: number of real coefficients, (SHELLS,), as the following.
        noise: sigma^2 of the target.
        yy, yx, xx: products of target and mean.
        ay, ax, aa: products with what the model saw.
        spread: unbiased variance of a sample.
        kept: y, x and a of a shell of BAND in some voxels, (3, SHELLS, KEPT) float32, NaN where there are fewer.
    """

    count: Tensor
    noise: Tensor
    yy: Tensor
    yx: Tensor
    xx: Tensor
    ay: Tensor
    ax: Tensor
    aa: Tensor
    spread: Tensor
    kept: Tensor


@dataclass(frozen=True)
class MeanSums:
    """The same for several means x_i.

    Attributes:
        count, noise, yy, ay, aa, spread: as of ``ShellSums``.
        yx, ax: of each mean, (means, SHELLS).
        xx: of each pair of means, (means, means, SHELLS).
        regions: squared error of the last mean less the noise, and variance of a sample, each over the sum of noise and that
            variance; in all voxels that are not held out, and in each held-out region, (2, 1 + regions).
        kept: y, a and the means of a shell of BAND in some voxels, (2 + means, SHELLS, KEPT) float32.
    """

    count: Tensor
    noise: Tensor
    yy: Tensor
    ay: Tensor
    aa: Tensor
    spread: Tensor
    yx: Tensor
    ax: Tensor
    xx: Tensor
    regions: Tensor
    kept: Tensor

    def __add__(self, other: MeanSums) -> MeanSums:
        mine, others = vars(self), vars(other)
        sums = {name: mine[name] + others[name] for name in mine if name != "kept"}
        return MeanSums(**sums, kept=torch.cat((self.kept, other.kept), -1))

    def averaging(self, index: int, excess: float) -> MeanSums:
        """As if mean ``index`` averaged so many more samples that its variance is less by ``excess`` times that of a sample."""
        xx = self.xx.clone()
        xx[index, index] = (xx[index, index] - excess * self.spread).clamp_min(0.5 * xx[index, index])
        return replace(self, xx=xx)

    def of(self, weights: Tensor) -> ShellSums:
        """The sums of the mean sum_i w_i x_i, for weights (means,)."""
        w = weights.double()
        y, a, *means = self.kept
        x = sum((float(weight) * mean for weight, mean in zip(w, means, strict=True)), torch.zeros_like(y))
        xx = torch.einsum("i,j,ijs->s", w, w, self.xx)
        return ShellSums(
            self.count, self.noise, self.yy, w @ self.yx, xx, self.ay, w @ self.ax, self.aa, self.spread, torch.stack((y, x, a))
        )


def mean_sums(volume: HiddenVolume, means: Sequence[Tensor], samples: Sequence[Tensor], labels: Tensor) -> MeanSums:
    """Sums over the hidden bins of a volume.

    Args:
        volume: with hidden bins.
        means: of its posterior, (z, y, x) each.
        samples: of it, two at least.
        labels: of the voxels of the tomogram in its own frame, (z, y, x) integer: the number of the held-out region from 1,
            0 for voxels that are not held out, -1 for those without data.
    """
    shape, labels = volume.target.shape, volume.rotation(labels)
    valid = labels >= 0
    shell = (fourier.radius(shape) / SHELL_WIDTH).long().clamp(max=SHELLS)
    average = torch.stack(list(samples)).mean(0)
    densities = [volume.target, volume.data, *means, *(sample - average for sample in samples)]
    parts = _Parts([fourier.transform(density) * volume.bins for density in densities], 2 + len(means), shell, shape, valid)
    weight = volume.bins * fourier.multiplicity(shape)
    terms = torch.stack((weight, weight * volume.target_noise))
    count, noise = parts.share * fourier.shell_sums(terms, shell, SHELLS + 1)[:, :SHELLS]
    products, spread = parts.products()
    return MeanSums(
        count=count,
        noise=noise,
        spread=spread,
        yy=products[0, 0],
        ay=products[0, 1],
        aa=products[1, 1],
        yx=products[0, 2:],
        ax=products[1, 2:],
        xx=products[2:, 2:],
        regions=parts.regions(noise, spread, labels[valid].long()),
        kept=parts.kept(),
    )


@dataclass(frozen=True)
class _Parts:
    """Spectra of densities, and their parts in shells.

    Attributes:
        spectra: of target, data, means, and deviations of samples, (z, y, x // 2 + 1) each, 0 in bins that are not compared.
        seen: number of those that are no deviations.
        shell: of the bins, (z, y, x // 2 + 1).
        shape: of the densities, (z, y, x).
        valid: voxels with data, (z, y, x).
    """

    spectra: list[Tensor]
    seen: int
    shell: Tensor
    shape: Sequence[int]
    valid: Tensor

    @property
    def share(self) -> float:
        """Share of the voxels with data."""
        return float(self.valid.double().mean())

    def products(self) -> tuple[Tensor, Tensor]:
        """Sums by shell over voxels with data, float64: products of those seen, (seen, seen, SHELLS); variance of a sample."""
        products = torch.zeros(self.seen, self.seen, SHELLS, dtype=torch.float64)
        deviations = range(self.seen, len(self.spectra))
        if self.share == 1:
            weight = fourier.multiplicity(self.shape)
            for i, j in combinations_with_replacement(range(self.seen), 2):
                products[i, j] = products[j, i] = self._summed((self.spectra[i] * self.spectra[j].conj()).real * weight)
            squares = sum((self.spectra[i].abs().square() for i in deviations), torch.zeros_like(weight))
            return products, self._summed(squares * weight) / (len(deviations) - 1)
        spread = torch.zeros(SHELLS, dtype=torch.float64)
        for number in range(SHELLS):
            parts = torch.stack([self._part(spectrum, number) for spectrum in self.spectra]).double()
            products[..., number] = parts[: self.seen] @ parts[: self.seen].T
            spread[number] = parts[self.seen :].square().sum() / (len(deviations) - 1)
        return products, spread

    def regions(self, noise: Tensor, spread: Tensor, places: Tensor) -> Tensor:
        """``MeanSums.regions``; places: labels of the voxels with data."""
        centres, expected = shell_centres(), noise + spread
        regions = torch.zeros(2, int(places.max()) + 1, dtype=torch.float64)
        for number in torch.nonzero((centres > FITTED[0]) & (centres < FITTED[1]) & (expected > 0))[:, 0].tolist():
            error = self._part(self.spectra[0] - self.spectra[self.seen - 1], number).double().square()
            deviations = [self._part(spectrum, number).double().square() for spectrum in self.spectra[self.seen :]]
            variance = torch.stack(deviations).sum(0) / (len(deviations) - 1)
            for row, values in zip(regions, (error - noise[number] / len(places), variance), strict=True):
                row.index_add_(0, places, values / expected[number])
        return regions

    def kept(self) -> Tensor:
        """``MeanSums.kept``."""
        kept = torch.full((self.seen, SHELLS, KEPT), float("nan"))
        centres = shell_centres()
        for number in torch.nonzero((centres > BAND[0]) & (centres < BAND[1]))[:, 0].tolist():
            for row, spectrum in zip(kept, self.spectra[: self.seen], strict=True):
                part = self._part(spectrum, number)
                some = part[:: -(-len(part) // KEPT)]
                row[number, : len(some)] = some
        return kept

    def _part(self, spectrum: Tensor, number: int) -> Tensor:
        """Voxels with data of the part of a spectrum in a shell."""
        return fourier.inverse(spectrum * (self.shell == number), self.shape)[self.valid]

    def _summed(self, terms: Tensor) -> Tensor:
        return fourier.shell_sums(terms[None], self.shell, SHELLS + 1)[0, :SHELLS]
