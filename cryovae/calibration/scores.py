"""Restores a volume of which some measured bins are hidden, and compares the result with what was measured there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cryovae.calibration.hidden_bins import HiddenVolume, MeanSums, mean_sums, noise_like, with_hidden_wedge, with_more_noise
from cryovae.data.crops import informative_box
from cryovae.data.prepare import PreparedTomogram
from cryovae.physics.rotation import CubeRotation, training_rotations
from cryovae.posterior.patch_sampler import scale_of_signal
from cryovae.posterior.volume_data import AVERAGE, VolumeData, VolumePosterior
from cryovae.tomogram import TiltGeometry

# Orientations in which the wedge is hidden.
ROTATIONS = 2
# Largest number of voxels of a subject: of larger tomograms the box that shows most.
VOXELS = 3 * 2**20


@dataclass(frozen=True)
class Subject:
    """A tomogram, or the part of it, on which held-out bins are looked at.

    Attributes:
        volume: its data.
        halves: the same part of the halves, (z, y, x) each, standardised like the tomogram, or None.
        labels: of its voxels, as of ``mean_sums``.
        regions: number of held-out patches and boxes of the tomogram.
    """

    volume: VolumeData
    halves: tuple[Tensor, Tensor] | None
    labels: Tensor
    regions: int

    @staticmethod
    def of(
        prepared: PreparedTomogram, halves: tuple[Any, Any] | None, patch: int, voxels: int = VOXELS, scaled: bool = True
    ) -> Subject:
        """The subject of a tomogram.

        Args:
            prepared: the tomogram, in memory or in files.
            halves: (z, y, x) each, standardised like the tomogram, or None.
            patch: side of the held-out patches, in voxels.
            voxels: of the subject at most.
            scaled: whether the standard deviation of the signal is needed, as by a flow.

        Raises:
            NoSignal: it is needed, and the tomogram holds no signal above its noise.
        """
        shape = prepared.density.shape
        box: tuple[slice, ...] = tuple(slice(0, size) for size in shape)
        if prod(shape) > voxels:
            box = informative_box(prepared.density, voxels)
        data, *parts = (_cut(density, box) for density in (prepared.density, *(halves or ())))
        scale = scale_of_signal(prepared.name, data, prepared.tilts, prepared.noise) if scaled else 1.0
        labels = prepared.held_out_labels(patch, (box[0], box[1], box[2]))
        both = None if halves is None else (parts[0], parts[1])
        return Subject(VolumeData(data, prepared.tilts, prepared.noise, scale), both, labels, prepared.held_out_count)


def _cut(density: Any, box: tuple[slice, ...]) -> Tensor:
    if isinstance(density, Tensor):
        return density[box].cpu()
    return torch.from_numpy(np.array(density[box], dtype=np.float32))


@dataclass(frozen=True)
class HeldOutSums:
    """Sums over hidden bins.

    Attributes:
        wedge: over bins that were hidden in the wedge; None without a wedge.
        measured: over bins that the model saw with more noise.
        names: of the means.
        regions: number of held-out patches and boxes.
        share: of the voxels with data that they hold.
        samples: of each hidden volume.
    """

    wedge: MeanSums | None
    measured: MeanSums
    names: tuple[str, ...]
    regions: int
    share: float
    samples: int

    def averaging(self, sums: MeanSums, samples: int) -> MeanSums:
        """Sums as if ``samples`` were averaged."""
        if AVERAGE not in self.names:
            return sums
        return sums.averaging(self.names.index(AVERAGE), 1 / self.samples - 1 / samples)


def hidden_rotations(tilts: TiltGeometry, count: int = ROTATIONS) -> list[CubeRotation]:
    """Rotations that bring measured bins into the wedge, as different as can be; none without a wedge."""
    if not tilts.has_wedge:
        return []
    # Where the beam points to is what matters.
    by_beam: dict[int, CubeRotation] = {}
    for rotation in training_rotations(tilts):
        by_beam.setdefault(rotation.axes.index(0), rotation)
    return [by_beam[axis] for axis in sorted(by_beam, reverse=True)][:count]


def held_out_sums(
    posterior: VolumePosterior,
    subject: Subject,
    fill: Tensor | None = None,
    rotations: int = ROTATIONS,
    samples: int | None = None,
    seed: int = 0,
) -> HeldOutSums:
    """Restore a subject with bins hidden, and compare.

    Args:
        posterior: the model.
        subject: what is restored.
        fill: of its wedge, (z, y, x); None for that of the posterior.
        rotations: in how many orientations the wedge is hidden.
        samples: of each hidden volume; None for as many as the posterior needs.
        seed: of all random numbers.
    """
    samples = samples or posterior.hidden_samples
    volume, labels = subject.volume, subject.labels
    tilts, noise = volume.tilts, volume.noise
    generator = torch.Generator().manual_seed(seed)
    orientations = hidden_rotations(tilts, rotations)
    if orientations and fill is None:
        fill = posterior.fill(volume)

    def sums(problem: HiddenVolume) -> MeanSums:
        seen = VolumeData(problem.data, tilts, problem.noise, volume.scale)
        return mean_sums(problem, *posterior.restored(seen, samples), labels)

    wedge: MeanSums | None = None
    for rotation in orientations:
        assert fill is not None
        part = sums(with_hidden_wedge(volume.data, tilts, noise, fill, rotation, generator))
        wedge = part if wedge is None else wedge + part
    more = noise_like(volume.data, subject.halves, tilts, noise, generator)
    measured = sums(with_more_noise(volume.data, more, tilts, noise))
    share = float((labels > 0).sum() / (labels >= 0).sum().clamp_min(1))
    return HeldOutSums(wedge, measured, tuple(posterior.names), subject.regions, share, samples)


def weights_by_name(names: Sequence[str], weights: Sequence[float] | Tensor) -> dict[str, float]:
    """Weights of the means by name."""
    return {name: round(float(weight), 4) for name, weight in zip(names, weights, strict=True)}
