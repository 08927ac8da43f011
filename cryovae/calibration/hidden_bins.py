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
        kept: y, x and a of a shell in some voxels, (3, SHELLS, KEPT) float32, NaN where there are fewer.
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
        kept: y, a and the means of a shell in some voxels, (2 + means, SHELLS, KEPT) float32.
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
    places = labels[valid].long()
    share = len(places) / labels.numel()
    shell = (fourier.radius(shape) / SHELL_WIDTH).long().clamp(max=SHELLS)
    average = torch.stack(list(samples)).mean(0)
    densities = [volume.target, volume.data, *means, *(sample - average for sample in samples)]
    spectra = [fourier.transform(density) * volume.bins for density in densities]
    weight = volume.bins * fourier.multiplicity(shape)
    terms = torch.stack((weight, weight * volume.target_noise))
    count, noise = share * fourier.shell_sums(terms, shell, SHELLS + 1)[:, :SHELLS]
    seen = 2 + len(means)
    products = torch.zeros(seen, seen, SHELLS, dtype=torch.float64)
    spread, regions = torch.zeros(SHELLS, dtype=torch.float64), torch.zeros(2, int(labels.max()) + 1, dtype=torch.float64)
    kept = torch.full((seen, SHELLS, KEPT), float("nan"))
    for number in torch.nonzero(count >= 1)[:, 0].tolist():
        bins = shell == number
        parts = torch.stack([fourier.inverse(spectrum * bins, shape)[valid] for spectrum in spectra])
        products[..., number] = parts[:seen].double() @ parts[:seen].double().T
        variance = parts[seen:].double().square().sum(0) / (len(samples) - 1)
        spread[number] = variance.sum()
        some = parts[:seen, :: -(-len(places) // KEPT)]
        kept[:, number, : some.shape[1]] = some
        if FITTED[0] < (number + 0.5) * SHELL_WIDTH < FITTED[1]:
            expected = noise[number] + spread[number]
            excess = (parts[0] - parts[seen - 1]).double().square() - noise[number] / len(places)
            for row, values in zip(regions, (excess, variance), strict=True):
                row.index_add_(0, places, values / expected)
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
        regions=regions,
        kept=kept,
    )
