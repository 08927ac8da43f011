"""Held-out measured bins: volumes of which some bins were measured but are hidden from the model, and what it makes of them.

    in the wedge    u = M R y+        y+ the data, their wedge filled by a sample with noise; R brings measured bins into the wedge
    measured bins   a, b              two observations with noise 2 sigma^2 each; the model sees a, b is compared

The model restores u or a as it restores a tomogram: the same estimate, the same samples, the same tiles. What is compared is the
part in the hidden bins, shell by shell, within the held-out regions, of which training saw nothing as a target.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
# Voxels of which the parts in a shell are kept, for the coverage.
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
    turned = rotated_frequencies(fourier.frequencies(target.shape), rotation.matrix)
    measured = wedge_mask(turned, tilts, volume_edge(target.shape, tilts))
    bins = ((mask < EMPTY) & (measured > FULL)) * fourier.below_nyquist(target.shape)

    def turned_noise(frequency: Tensor) -> Tensor:
        return noise(rotated_frequencies(frequency, rotation.matrix))

    return HiddenVolume(fourier.filtered(target, mask), turned_noise, target, noise(turned), bins, rotation)


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
        kept: y, x and a at some voxels, (3, SHELLS, voxels) float32, NaN where there are fewer.
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
        kept: y, a and the means at some voxels, (2 + means, SHELLS, voxels) float32.
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


def mean_sums(hidden: HiddenVolume, means: Sequence[Tensor], samples: Sequence[Tensor], window: Tensor) -> MeanSums:
    """Sums over the hidden bins of a volume.

    Args:
        hidden: the volume.
        means: of its posterior, (z, y, x) each.
        samples: of it, two at least.
        window: 1 where the tomogram is held out, else 0, (z, y, x) in its own frame.
    """
    inside = hidden.rotation(window).bool()
    share, count = float(inside.float().mean()), len(means)
    weights = hidden.bins * fourier.multiplicity(hidden.target.shape)
    rows, kept = [], []
    for bands, part in _bands((hidden.target, hidden.data, *means, *samples), hidden.bins):
        seen = torch.stack([band[inside] for band in bands[: 2 + count]]).double()
        drawn = torch.stack([band[inside] for band in bands[2 + count :]]).double()
        of_shell = part * weights
        coefficients, noise = float(of_shell.sum()) * share, float((of_shell * hidden.target_noise).double().sum()) * share
        rows.append((coefficients, noise, float(drawn.var(0).sum()), seen @ seen.T))
        some = seen[:, :: max(seen.shape[1] // KEPT, 1)][:, :KEPT].float()
        kept.append(torch.nn.functional.pad(some, (0, KEPT - some.shape[1]), value=float("nan")))
    numbers = torch.tensor([row[:3] for row in rows], dtype=torch.float64).T
    products = torch.stack([row[3] for row in rows], -1)
    return MeanSums(
        count=numbers[0],
        noise=numbers[1],
        spread=numbers[2],
        yy=products[0, 0],
        ay=products[0, 1],
        aa=products[1, 1],
        yx=products[0, 2:],
        ax=products[1, 2:],
        xx=products[2:, 2:],
        kept=torch.stack(kept, 1),
    )


def _bands(volumes: Sequence[Tensor], bins: Tensor) -> Iterator[tuple[list[Tensor], Tensor]]:
    """The part of volumes in ``bins``, shell by shell, (z, y, x) each, and the bins of the shell."""
    spectra = [fourier.transform(volume) * bins for volume in volumes]
    shape = volumes[0].shape
    shell = (fourier.radius(shape) / SHELL_WIDTH).long()
    for number in range(SHELLS):
        part = (shell == number).float()
        yield [fourier.inverse(spectrum * part, shape) for spectrum in spectra], part
