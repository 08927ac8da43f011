"""Held-out bins: volumes of which some bins were measured but are hidden from the model, and what it makes of them.

    in the wedge    u = M R y+        y+ the data, their wedge filled by a sample and noise; R brings measured bins into the wedge
    measured bins   a, b              two observations with noise 2 sigma^2 each; the model sees a, b is compared

The model restores u or a as it restores a tomogram: the same estimate, the same samples, the same tiles. What is compared is the
part in the hidden bins, seen through a window on the held-out regions, of which training saw nothing as a target, by shell.
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
# Mask below which a bin counts as hidden, and above which it counts as measured.
EMPTY, FULL = 0.01, 0.99
# Real and imaginary parts that are kept of a shell, for the coverage.
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
    data: Tensor, tilts: TiltGeometry, noise: NoiseFunction, sample: Tensor, rotation: CubeRotation, generator: torch.Generator
) -> HiddenVolume:
    """The data of a tomogram, rotated, with the bins that come to lie in the wedge hidden.

    Args:
        data: y, (z, y, x), standardised.
        tilts: the tilt geometry.
        noise: sigma^2.
        sample: of the posterior, (z, y, x), which fills the wedge of the data.
        rotation: R.
        generator: of the noise of what is filled in.
    """
    k = fourier.frequencies(data.shape)
    noisy = sample + fourier.filtered(torch.randn(data.shape, generator=generator), noise(k).sqrt())
    target = rotation(noisy + fourier.filtered(data - noisy, volume_mask(data.shape, tilts)))
    mask = volume_mask(target.shape, tilts)
    rotated = rotated_frequencies(fourier.frequencies(target.shape), rotation.matrix)
    measured = wedge_mask(rotated, tilts, volume_edge(data.shape, tilts))
    bins = ((mask < EMPTY) & (measured > FULL)) * fourier.below_nyquist(target.shape)

    def rotated_noise(frequency: Tensor) -> Tensor:
        return noise(rotated_frequencies(frequency, rotation.matrix))

    return HiddenVolume(fourier.filtered(target, mask), rotated_noise, target, noise(rotated), bins, rotation)


def with_other_half(first: Tensor, second: Tensor, tilts: TiltGeometry, noise: NoiseFunction) -> HiddenVolume:
    """Two observations (z, y, x) with noise of twice the variance of ``noise``: the first is seen, the second compared."""
    mask = volume_mask(first.shape, tilts)
    bins = (mask > FULL) * fourier.below_nyquist(first.shape)
    bins[0, 0, 0] = 0.0

    def twice(frequency: Tensor) -> Tensor:
        return 2 * noise(frequency)

    return HiddenVolume(first, twice, second, twice(fourier.frequencies(first.shape)), bins)


def split(data: Tensor, tilts: TiltGeometry, noise: NoiseFunction, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two observations y + n and y - n of a volume without halves (Pang et al. 2021, Recorrupted-to-Recorrupted)."""
    amplitude = noise(fourier.frequencies(data.shape)).sqrt() * volume_mask(data.shape, tilts)
    added = fourier.filtered(torch.randn(data.shape, generator=generator), amplitude)
    return data + added, data - added


@dataclass(frozen=True)
class ShellSums:
    """Sums over hidden bins by shell, float64, of products of the target y, a mean x and what the model saw, a.

    Attributes:
        count: number of real coefficients, (SHELLS,), as the following.
        noise: sigma^2 of the target.
        yy, yx, xx: products of target and mean.
        ay, ax, aa: products with what the model saw.
        spread: unbiased variance of a sample.
        kept: parts of y, x and a in some bins, (3, SHELLS, KEPT) float32, NaN where there are fewer.
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
        kept: parts of y, a and the means in some bins, (2 + means, SHELLS, KEPT) float32.
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


def mean_sums(volume: HiddenVolume, means: Sequence[Tensor], samples: Sequence[Tensor], window: Tensor) -> MeanSums:
    """Sums over the hidden bins of a volume.

    Args:
        volume: with hidden bins.
        means: of its posterior, (z, y, x) each.
        samples: of it, two at least.
        window: 1 where the tomogram is held out, else 0, (z, y, x) in its own frame.
    """
    support, shape = volume.rotation(window), volume.target.shape
    shell = (fourier.radius(shape) / SHELL_WIDTH).long().clamp(max=SHELLS)

    def seen(density: Tensor) -> Tensor:
        return fourier.transform(support * fourier.filtered(density, volume.bins))

    columns = fourier.multiplicity(shape)
    spectra = [seen(density) for density in (volume.target, volume.data, *means)]
    pairs = [(i, j) for i in range(len(spectra)) for j in range(i, len(spectra))]
    terms = [(spectra[i] * spectra[j].conj()).real for i, j in pairs]
    # The power that white noise of variance 1, and the noise of the target, have in a shell when seen through the window.
    terms += [smeared(volume.bins * variance, support) for variance in (torch.ones(()), volume.target_noise)]
    terms.append(_variance([seen(sample) for sample in samples]))
    sums = torch.cat([fourier.shell_sums((columns * term)[None], shell, SHELLS + 1)[:, :SHELLS].cpu() for term in terms])
    products = torch.zeros(len(spectra), len(spectra), SHELLS, dtype=torch.float64)
    for (i, j), row in zip(pairs, sums, strict=False):
        products[i, j] = products[j, i] = row
    count, noise, spread = sums[len(pairs) :]
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
        kept=_kept(spectra, volume.bins, shell),
    )


def smeared(variance: Tensor, support: Tensor) -> Tensor:
    """Spectrum (..., z, y, x // 2 + 1) of noise seen through a window: < |F(t n)|^2 >, ``variance`` convolved with |F t|^2.

    Args:
        variance: spectrum of the noise (..., z, y, x // 2 + 1).
        support: the window t (..., z, y, x).
    """
    shape = support.shape[-3:]
    shift = fourier.inverse(fourier.transform(support).abs().square().to(torch.complex64), shape)
    return fourier.transform(shift * fourier.inverse(variance.to(torch.complex64), shape)).real / shape.numel() ** 0.5


def _variance(samples: Sequence[Tensor]) -> Tensor:
    """Unbiased variance of samples, bin by bin."""
    average = torch.stack(list(samples)).mean(0)
    return torch.stack([(sample - average).abs().square() for sample in samples]).sum(0) / (len(samples) - 1)


def _kept(spectra: Sequence[Tensor], bins: Tensor, shell: Tensor) -> Tensor:
    """Real and imaginary parts of some bins of each shell: (spectra, SHELLS, KEPT), NaN where there are fewer."""
    kept = torch.full((len(spectra), SHELLS, KEPT), float("nan"))
    for number in range(SHELLS):
        index = torch.nonzero((bins > 0) & (shell == number), as_tuple=True)
        stride = max(-(-2 * len(index[0]) // KEPT), 1)
        some = tuple(axis[::stride] for axis in index)
        for row, spectrum in zip(kept, spectra, strict=True):
            values = torch.view_as_real(spectrum[some]).flatten()[:KEPT]
            row[number, : len(values)] = values
    return kept
