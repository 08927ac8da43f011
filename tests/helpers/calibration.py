"""A model whose errors are known, and white tomograms, for tests of the calibration."""

import torch
from torch import nn

from cryovae import fourier
from cryovae.data.prepare import prepare
from cryovae.models.ladder_config import LadderConfig
from cryovae.physics.wedge import volume_mask
from cryovae.tomogram import Tomogram

SIGNAL, NOISE, SIDE = 1.0, 0.5, 40


class Shrinking(nn.Module):
    """Predicts ``gain`` times what it sees, give or take white noise of standard deviation ``spread``."""

    def __init__(self, gain: float, spread: float) -> None:
        super().__init__()
        self.config = LadderConfig((4, 4), (1, 1), 1)
        self.gain, self.spread = gain, spread

    def latent_shapes(self, shape):
        return [(1, *shape), (1, *(n // 2 for n in shape))]

    def encode(self, density, role):
        return [density]

    def restore(self, features, noise):
        return self.gain * features[0]

    def restore_pair(self, features, noise):
        e = self.spread * noise[0][:, 0]
        return torch.stack((self.gain * features[0] + e, self.gain * features[0] - e))


def prepared_white(tilts, seed=0):
    """White signal of variance SIGNAL and noise of variance NOISE, 2 NOISE in each half, in the measured bins."""
    shape = (72, 136, 128)
    rng = torch.Generator().manual_seed(seed)
    mask = volume_mask(shape, tilts, 1e-6)
    signal = fourier.filtered(torch.randn(shape, generator=rng), mask) * SIGNAL**0.5
    halves = [signal + fourier.filtered(torch.randn(shape, generator=rng), mask) * (2 * NOISE) ** 0.5 for _ in range(2)]
    mean = (halves[0] + halves[1]) / 2
    prepared = prepare(Tomogram("t", mean.numpy(), 10.0, tilts, (halves[0].numpy(), halves[1].numpy())), SIDE)
    scale = prepared.scale
    standardised = tuple((half - prepared.mean) / scale for half in halves)
    return prepared, standardised, scale


def split_noise(prepared):
    """The volume with noise like its own added, and taken off, for a tomogram without halves."""

    def split(generator):
        white = torch.randn(prepared.density.shape, generator=generator)
        mask = volume_mask(prepared.density.shape, prepared.tilts)
        noise = fourier.filtered(white, prepared.noise(fourier.frequencies(white.shape)).sqrt() * mask)
        return prepared.density + noise, prepared.density - noise

    return split
