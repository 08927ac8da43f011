"""Restoring with hidden bins: what of a tomogram is looked at, and what a posterior that is known shows there."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cryovae import fourier
from cryovae.calibration.fitted import figures_of, fitted, plain
from cryovae.calibration.scores import Subject, held_out_sums, hidden_rotations
from cryovae.data.prepare import prepare
from cryovae.physics.noise import NoiseSpectrum
from cryovae.physics.wedge import volume_mask
from cryovae.posterior.volume_data import AVERAGE, COMPLETION
from cryovae.tomogram import TiltGeometry, Tomogram

SHAPE, PATCH = (56, 80, 64), 16
SIGNAL, NOISE = 1.0, 0.5
RANGE = TiltGeometry.from_range(-60, 60)


def _tomogram(shape=SHAPE, seed=11, tilts=RANGE):
    """White signal and noise in the measured bins; halves with twice the noise."""
    rng = torch.Generator().manual_seed(seed)
    mask = volume_mask(shape, tilts, 1e-6)
    signal = SIGNAL**0.5 * fourier.filtered(torch.randn(shape, generator=rng), mask)
    halves = [signal + (2 * NOISE) ** 0.5 * fourier.filtered(torch.randn(shape, generator=rng), mask) for _ in range(2)]
    return Tomogram("t", ((halves[0] + halves[1]) / 2).numpy(), 10.0, tilts, (halves[0].numpy(), halves[1].numpy()))


class Exact:
    """The exact posterior of white signal: Wiener's filter in measured bins, nothing in the wedge; ``width`` times its spread."""

    names, hidden_samples = (COMPLETION, AVERAGE), 4

    def __init__(self, scale, width=1.0):
        self.signal, self.width = SIGNAL / scale**2, width

    def restored(self, volume, samples):
        noise = volume.noise(fourier.frequencies(volume.data.shape))
        mask = volume_mask(volume.data.shape, volume.tilts)
        gain = mask * self.signal / (self.signal + noise)
        mean = fourier.filtered(volume.data, gain)
        variance = self.signal * (1 - gain)
        rng = torch.Generator().manual_seed(5)
        white = [torch.randn(volume.data.shape, generator=rng) for _ in range(samples)]
        drawn = [mean + self.width * fourier.filtered(one, variance.sqrt()) for one in white]
        return [mean, torch.stack(drawn).mean(0)], drawn

    def fill(self, volume):
        return self.restored(volume, 1)[1][0]


@pytest.fixture(scope="module")
def prepared():
    return prepare(_tomogram(), PATCH)


def _halves(prepared):
    tomogram = _tomogram()
    return prepared.ready(tomogram.halves[0]), prepared.ready(tomogram.halves[1])


@pytest.mark.parametrize(("width", "has_halves"), [(1.0, True), (0.6, True), (0.6, False)])
def test_the_factor_makes_the_spread_that_of_the_errors(prepared, width, has_halves):
    if not has_halves:
        # White signal and white noise cannot be told apart in one volume.
        known = NoiseSpectrum(torch.full_like(prepared.noise.table, NOISE / prepared.scale**2), "known")
        prepared = replace(prepared, noise=known)
    subject = Subject.of(prepared, _halves(prepared) if has_halves else None, PATCH)
    held_out = held_out_sums(Exact(prepared.scale, width), subject)
    fit = fitted(held_out, 4)
    assert float(fit.wedge.factors.scale[4:12].mean()) == pytest.approx(width**-2, rel=0.1)
    # What is compared in measured bins has five times the noise: of so few, some of the factor stays with the prior.
    assert float(fit.measured.factors.scale[9:17].mean()) == pytest.approx(width**-2, rel=0.2)
    figures = figures_of(held_out, fit, 4)
    assert figures["rms_over_std"] == pytest.approx(1 / width, rel=0.12)
    assert figures["measured"]["rms_over_std"] == pytest.approx(1 / width, rel=0.12)
    assert figures["trained_on"] is False
    assert figures["patches"] == prepared.held_out_count
    assert figures["held_out_share"] > 0.05
    assert figures["overfitting"] == pytest.approx(1, abs=0.3)
    assert abs(figures["coverage"]["0.9"] - 0.9) < 0.03


def test_the_exact_mean_leaves_the_data_no_weight(prepared):
    held_out = held_out_sums(Exact(prepared.scale), Subject.of(prepared, _halves(prepared), PATCH))
    assert float(fitted(held_out, 4).measured.factors.weight[4:12].mean()) < 0.08


def test_a_mean_of_nothing_leaves_the_data_the_weight_of_wiener(prepared):
    """SIGNAL / (SIGNAL + NOISE) at the noise of the tomogram, and less at that of a half."""

    class Empty(Exact):
        def restored(self, volume, samples):
            means, drawn = super().restored(volume, samples)
            return [0 * mean for mean in means], [one - means[0] for one in drawn]

    held_out = held_out_sums(Empty(prepared.scale), Subject.of(prepared, _halves(prepared), PATCH))
    for noise in (1.0, 2.0):
        weight = float(fitted(held_out, 4, noise).measured.factors.weight[4:12].mean())
        assert weight == pytest.approx(SIGNAL / (SIGNAL + noise * NOISE), abs=0.06)


def test_without_a_wedge_measured_bins_alone_are_looked_at():
    prepared = prepare(_tomogram(tilts=TiltGeometry.from_range(-90, 90)), PATCH)
    held_out = held_out_sums(Exact(prepared.scale), Subject.of(prepared, None, PATCH))
    assert held_out.wedge is None
    fit = fitted(held_out, 4)
    assert torch.equal(fit.wedge.weights, plain(held_out.names).wedge.weights)
    assert set(figures_of(held_out, fit, 4)) == {"patches", "held_out_share", "trained_on", "measured"}


def test_of_a_large_tomogram_one_box_is_looked_at(prepared):
    """That which shows most, with the labels of its voxels."""
    density = prepared.density.clone()
    density[:, :40] *= 0.05
    prepared.density, before = density, prepared.density
    try:
        subject = Subject.of(prepared, _halves(prepared), PATCH, 24**3)
    finally:
        prepared.density = before
    sizes = subject.volume.data.shape
    assert np.prod(sizes) <= 24**3
    every = prepared.held_out_labels(PATCH)
    places = [
        (z, y, x)
        for z, y, x in np.ndindex(*(n - s + 1 for n, s in zip(SHAPE, sizes, strict=True)))
        if torch.equal(density[z : z + sizes[0], y : y + sizes[1], x : x + sizes[2]], subject.volume.data)
    ]
    assert len(places) == 1
    z, y, x = places[0]
    assert y >= 36
    assert torch.equal(subject.labels, every[z : z + sizes[0], y : y + sizes[1], x : x + sizes[2]])
    assert subject.halves[0].shape == sizes


def test_rotations_point_the_beam_elsewhere():
    rotations = hidden_rotations(RANGE)
    assert len({rotation.axes.index(0) for rotation in rotations}) == len(rotations) == 2
