"""Restores a tomogram of which some measured bins are hidden, and compares the result with what was measured there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cryovae.calibration.hidden_bins import HiddenVolume, MeanSums, mean_sums, split, with_hidden_wedge, with_other_half
from cryovae.data.prepare import PreparedTomogram
from cryovae.physics.rotation import CubeRotation, training_rotations
from cryovae.posterior.flow_posterior import FlowPosterior, VolumeData
from cryovae.tomogram import TiltGeometry

# The means that are compared, in this order: of the ladder, of the latents as the flow predicts it, of samples.
COMPLETION, PREDICTED, AVERAGE = "completion", "predicted", "average"
MEANS = (COMPLETION, PREDICTED, AVERAGE)
# Orientations in which the wedge is hidden, and samples of each hidden volume.
ROTATIONS, SAMPLES = 2, 4


@dataclass(frozen=True)
class HeldOutSums:
    """Sums over held-out bins.

    Attributes:
        wedge: over bins that were hidden in the wedge; None without a wedge.
        measured: over bins that the model saw with more noise.
        patches: number of held-out patches.
        share: of the tomogram that they hold.
        trained_on: whether training saw all of the tomogram, because it is too small.
    """

    wedge: MeanSums | None
    measured: MeanSums
    patches: int
    share: float
    trained_on: bool


def held_out_window(prepared: PreparedTomogram, patch: int) -> Tensor:
    """1 in the voxels of held-out patches, else 0, (z, y, x); of all voxels if there are none. Fill never counts."""
    window = torch.ones(prepared.density.shape)
    if prepared.held_out:
        window.zero_()
        for z, y, x in prepared.held_out:
            window[z : z + patch, y : y + patch, x : x + patch] = 1.0
    return window if prepared.region is None else window * torch.from_numpy(prepared.region.valid())


def hidden_rotations(tilts: TiltGeometry, count: int = ROTATIONS) -> list[CubeRotation]:
    """Rotations that bring measured bins into the wedge, as different as can be; none without a wedge."""
    if not tilts.has_wedge:
        return []
    # Where the beam points to is what matters.
    by_beam: dict[int, CubeRotation] = {}
    for rotation in training_rotations(tilts):
        by_beam.setdefault(rotation.axes.index(0), rotation)
    return [by_beam[axis] for axis in sorted(by_beam, reverse=True)][:count]


def means_and_samples(posterior: FlowPosterior, volume: VolumeData, count: int) -> tuple[list[Tensor], list[Tensor]]:
    """The means of a volume in the order of MEANS, and the first samples of it, (z, y, x) each."""
    estimate = posterior.estimate(volume)
    drawing = posterior.samples(volume, estimate)
    samples = [drawing(number) for number in range(count)]
    return [estimate, drawing.predicted(), torch.stack(samples).mean(0)], samples


def held_out_sums(
    posterior: FlowPosterior,
    prepared: PreparedTomogram,
    volume: VolumeData,
    halves: tuple[Tensor, Tensor] | None,
    sample: Tensor,
    patch: int,
    rotations: int = ROTATIONS,
    samples: int = SAMPLES,
    seed: int = 0,
) -> HeldOutSums:
    """Restore the tomogram with other bins hidden, and compare.

    Args:
        posterior: the model.
        prepared: the tomogram.
        volume: its data.
        halves: (z, y, x) each, standardised like the tomogram, or None.
        sample: of the posterior of the tomogram, (z, y, x), which fills its wedge.
        patch: side of the held-out patches, in voxels.
        rotations: in how many orientations the wedge is hidden.
        samples: of each hidden volume.
        seed: of all random numbers.
    """
    generator = torch.Generator().manual_seed(seed)
    tilts, noise = volume.tilts, volume.noise
    window = held_out_window(prepared, patch)

    def sums(problem: HiddenVolume) -> MeanSums:
        seen = VolumeData(problem.data, tilts, problem.noise, volume.scale)
        return mean_sums(problem, *means_and_samples(posterior, seen, samples), window)

    wedge: MeanSums | None = None
    for rotation in hidden_rotations(tilts, rotations):
        part = sums(with_hidden_wedge(volume.data, tilts, noise, sample, rotation, generator))
        wedge = part if wedge is None else wedge + part
    observations = halves if halves is not None else split(volume.data, tilts, noise, generator)
    measured = sums(with_other_half(*observations, tilts, noise))
    return HeldOutSums(wedge, measured, len(prepared.held_out), float(window.mean()), not prepared.held_out)


def averaging_more(sums: MeanSums, samples: int, of: int = SAMPLES) -> MeanSums:
    """The sums as if ``samples`` were averaged instead of ``of``."""
    return sums.averaging(MEANS.index(AVERAGE), 1 / of - 1 / samples)


def weights_by_name(weights: Sequence[float] | Tensor) -> dict[str, float]:
    """Weights of the means by name."""
    return {name: round(float(weight), 4) for name, weight in zip(MEANS, weights, strict=True)}
