"""What is measured after each lap of expectation-maximisation, without a truth: the power of the prior, and nulls.

Noise has nothing to be predicted from, and neither have data whose phases are random: what a model predicts there comes from an
error in the noise spectrum or in the wedge, which laps would turn into structure.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cryovae import fourier
from cryovae.calibration.hidden_bins import with_hidden_wedge
from cryovae.calibration.scores import hidden_rotations
from cryovae.models.generator import Generator
from cryovae.physics.wedge import volume_mask
from cryovae.posterior.flow_posterior import FlowPosterior
from cryovae.posterior.patch_sampler import PatchSampler
from cryovae.posterior.volume_data import VolumeData

# Patches of the prior whose power is compared with that of samples, and cycles per voxel between which it is.
PRIOR_PATCHES, PRIOR_STEPS, PRIOR_BAND = 16, 8, (0.05, 0.2)


def prior_power(generator: Generator, device: torch.device, side: int, sample: Tensor, seed: int) -> float:
    """Power of draws of the prior over that of patches of a sample, in the band."""
    sampler = PatchSampler(generator, device, PRIOR_STEPS)
    drawn = sampler.decoded(sampler.prior(side, PRIOR_PATCHES, seed))
    rng, count = torch.Generator().manual_seed(seed), (4 * PRIOR_PATCHES,)
    starts = torch.stack([torch.randint(max(size - side, 0) + 1, count, generator=rng) for size in sample.shape], 1)
    patches = torch.stack([sample[z : z + side, y : y + side, x : x + side] for z, y, x in starts.tolist()])
    powers = []
    for densities in (drawn, patches):
        radius = fourier.radius(densities.shape[-3:])
        band = (radius >= PRIOR_BAND[0]) & (radius < PRIOR_BAND[1])
        powers.append(float(fourier.transform(densities).abs().square().mean(0)[band].mean()))
    return powers[0] / max(powers[1], 1e-12)


def noise_out(posterior: FlowPosterior, volume: VolumeData) -> float:
    """Power in the wedge of the refined mean of noise like that of the data, over that of the noise."""
    shape, generator = volume.data.shape, torch.Generator().manual_seed(1)
    mask = volume_mask(shape, volume.tilts)
    amplitude = volume.noise(fourier.frequencies(shape)).sqrt() * mask
    noise = fourier.filtered(torch.randn(shape, generator=generator), amplitude)
    data = VolumeData(noise, volume.tilts, volume.noise, volume.scale)
    mean = posterior.samples(data, posterior.estimate(data)).refined()
    wedge = (mask < 0.5) * fourier.multiplicity(shape)
    power = float((wedge * fourier.transform(mean).abs().square()).sum())
    return power / float((fourier.multiplicity(shape) * fourier.transform(noise).abs().square()).sum())


def random_phases(posterior: FlowPosterior, volume: VolumeData) -> float | None:
    """Correlation of hidden bins of the data with random phases, and of the refined mean of them."""
    rotations = hidden_rotations(volume.tilts, 1)
    if not rotations:
        return None
    generator, shape = torch.Generator().manual_seed(2), volume.data.shape
    phases = fourier.transform(torch.randn(shape, generator=generator))
    shuffled = fourier.inverse(fourier.transform(volume.data).abs() * phases / phases.abs().clamp_min(1e-12), shape)
    problem = with_hidden_wedge(shuffled, volume.tilts, volume.noise, torch.zeros(shape), rotations[0], generator)
    seen = VolumeData(problem.data, volume.tilts, problem.noise, volume.scale)
    mean = posterior.samples(seen, posterior.estimate(seen)).refined()
    weight = problem.bins * fourier.multiplicity(problem.target.shape)
    x, y = fourier.transform(mean), fourier.transform(problem.target)
    cross, power, data = (float((weight * v).double().sum()) for v in ((x * y.conj()).real, x.abs().square(), y.abs().square()))
    return cross / max(power * data, 1e-30) ** 0.5
