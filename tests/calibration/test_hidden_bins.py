"""Volumes with hidden bins: what is hidden, what is compared, and the sums over shells."""

from dataclasses import replace

import pytest
import torch

from cryovae import fourier
from cryovae.calibration.hidden_bins import (
    ADDED_NOISE,
    SHELLS,
    mean_sums,
    noise_like,
    with_hidden_wedge,
    with_more_noise,
)
from cryovae.physics.observation import RandomNoise
from cryovae.physics.rotation import cube_rotations, rotated_frequencies, training_rotations
from cryovae.physics.wedge import volume_mask
from cryovae.tomogram import TiltGeometry

SHAPE = (24, 36, 28)
ALL = torch.zeros(SHAPE, dtype=torch.int16)
RANGE = TiltGeometry.from_range(-60, 50)
# Noise that is stronger along the beam, so that its rotation shows.
NOISE = RandomNoise(0.3, 0.5, 0.0, 0.8)


def _random(seed, shape=SHAPE):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _problem(shape=SHAPE, noise=NOISE):
    return with_more_noise(_random(0, shape), _random(1, shape), RANGE, noise)


@pytest.mark.parametrize("number", [1, 7, 12])
def test_measured_bins_come_to_lie_in_the_wedge_and_are_hidden_there(number):
    rotation = training_rotations(RANGE)[number]
    data = fourier.filtered(_random(0), volume_mask(SHAPE, RANGE))
    problem = with_hidden_wedge(data, RANGE, NOISE, _random(1), rotation, torch.Generator().manual_seed(2))
    spectrum = fourier.transform(problem.data)
    assert problem.bins.sum() > 100
    assert (spectrum.abs() * problem.bins).max() < 0.05 * spectrum.abs().mean()
    # What is compared is what was measured, and nothing that was filled in.
    expected = fourier.transform(rotation(data)) * problem.bins
    torch.testing.assert_close(fourier.transform(problem.target) * problem.bins, expected, atol=2e-2, rtol=1e-3)


def test_what_is_filled_into_the_wedge_of_the_data_is_the_sample_and_noise():
    rotation, sample = training_rotations(RANGE)[3], 5 * _random(1)
    mask = volume_mask(SHAPE, RANGE)
    data = fourier.filtered(_random(0), mask)
    problem = with_hidden_wedge(data, RANGE, NOISE, sample, rotation, torch.Generator().manual_seed(2))
    difference = fourier.transform(rotation.inverse(problem.target)) - fourier.transform(sample)
    empty = (mask < 0.01) * fourier.multiplicity(SHAPE) * fourier.below_nyquist(SHAPE)
    variance = (empty * difference.abs().square()).sum() / empty.sum()
    expected = (empty * NOISE(fourier.frequencies(SHAPE))).sum() / empty.sum()
    assert float(variance) == pytest.approx(float(expected), rel=0.1)


def test_the_noise_rotates_with_the_specimen():
    rotation = training_rotations(RANGE)[5]
    problem = with_hidden_wedge(_random(0), RANGE, NOISE, _random(1), rotation, torch.Generator().manual_seed(2))
    k = fourier.frequencies(problem.target.shape)
    torch.testing.assert_close(problem.target_noise, NOISE(rotated_frequencies(k, rotation.matrix)))
    torch.testing.assert_close(problem.noise(k), problem.target_noise)
    assert not torch.allclose(problem.target_noise, NOISE(k))


@pytest.mark.parametrize("has_halves", [True, False])
def test_the_two_observations_have_independent_noise(has_halves):
    """Of 1 + a^2 and 1 + 1 / a^2 times the variance; their signal is the same."""
    shape = (40, 44, 36)
    k, mask = fourier.frequencies(shape), volume_mask(shape, RANGE)
    halves = tuple(fourier.filtered(_random(seed, shape), (2 * NOISE(k)).sqrt() * mask) for seed in (0, 1))
    data = (halves[0] + halves[1]) / 2
    more = noise_like(data, halves if has_halves else None, RANGE, NOISE, torch.Generator().manual_seed(7))
    problem = with_more_noise(data, more, RANGE, NOISE)
    a, b = fourier.transform(problem.data), fourier.transform(problem.target)
    weight = (mask > 0.99) * fourier.multiplicity(shape) / NOISE(k)
    count = float(((mask > 0.99) * fourier.multiplicity(shape)).sum())
    assert float((weight * a.abs().square()).sum()) / count == pytest.approx(1 + ADDED_NOISE, rel=0.05)
    assert float((weight * b.abs().square()).sum()) / count == pytest.approx(1 + 1 / ADDED_NOISE, rel=0.05)
    assert float((weight * (a * b.conj()).real).sum()) / count == pytest.approx(0, abs=0.06)
    torch.testing.assert_close(problem.target_noise, (1 + 1 / ADDED_NOISE) * NOISE(k))
    torch.testing.assert_close(problem.noise(k), (1 + ADDED_NOISE) * NOISE(k))
    assert problem.bins[0, 0, 0] == 0
    signal = _random(7, shape)
    again = with_more_noise(data + signal, more, RANGE, NOISE)
    torch.testing.assert_close(again.data - problem.data, signal, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(again.target - problem.target, signal, atol=1e-5, rtol=1e-5)


def test_sums_are_those_over_the_bins():
    """Over all voxels: Parseval, shell by shell, of means, target, data and samples."""
    problem = _problem()
    first, second = problem.data, problem.target
    means, samples = [_random(2), _random(3)], [_random(4), _random(5), _random(6)]
    sums = mean_sums(problem, means, samples, ALL)
    weight = problem.bins * fourier.multiplicity(SHAPE)
    shell = (fourier.radius(SHAPE) / 0.025).long()
    y, a, x0, x1 = (fourier.transform(v) for v in (second, first, *means))
    drawn = torch.stack([fourier.transform(v) for v in samples])
    spread = (drawn - drawn.mean(0)).abs().square().sum(0) / 2
    for number in (2, 7, 15):
        part = weight * (shell == number)
        assert float(sums.count[number]) == pytest.approx(float(part.sum()))
        for value, expected in (
            (sums.noise, problem.target_noise),
            (sums.yy, y.abs().square()),
            (sums.ay, (a * y.conj()).real),
            (sums.yx[1], (y * x1.conj()).real),
            (sums.xx[0, 1], (x0 * x1.conj()).real),
            (sums.spread, spread),
        ):
            assert float(value[number]) == pytest.approx(float((part * expected).sum()), rel=1e-3, abs=1e-2)


def test_voxels_without_data_do_not_count():
    """The target is noise: its power by shell is what is expected of noise, up to the scatter of so many numbers."""
    shape = (40, 44, 36)
    labels = torch.zeros(shape, dtype=torch.int16)
    labels[:, :20] = -1
    problem = _problem(shape)
    target = fourier.filtered(_random(0, shape), problem.target_noise.sqrt())
    problem = replace(problem, target=target)
    sums = mean_sums(problem, [target], [target, -target], labels)
    for number in range(4, 19):
        assert float(sums.yy[number] / sums.noise[number]) == pytest.approx(1, abs=6 * (2 / float(sums.count[number])) ** 0.5)
    within = problem.bins * (fourier.radius(shape) < 0.5) * fourier.multiplicity(shape)
    assert float(sums.count.sum()) == pytest.approx(24 / 44 * float(within.sum()), rel=0.01)


def test_errors_of_held_out_regions_are_summed_by_themselves():
    """Of a mean that is off in the second region alone, the excess is there; variances follow the samples."""
    labels = torch.zeros(SHAPE, dtype=torch.int16)
    labels[4:12, 8:20, 4:16], labels[14:22, 8:20, 4:16] = 1, 2
    problem = _problem(noise=RandomNoise(1e-6, 0.0, 0.0, 0.0))
    off = torch.zeros(SHAPE)
    off[labels == 2] = 3 * _random(5)[labels == 2]
    samples = [torch.where(labels == 1, 2.0, 1.0) * _random(seed) for seed in (8, 9)]
    sums = mean_sums(problem, [problem.target - off], samples, labels)
    excess, variance = sums.regions
    assert sums.regions.shape == (2, 3)
    # Shells are thin, so what lies in one voxel reaches those around.
    assert float(excess[2] / excess[1]) > 2
    counts = torch.tensor([float((labels == number).sum()) for number in range(3)])
    density = variance / counts
    assert float(density[1] / density[0]) > 1.15


def test_labels_rotate_with_the_tomogram():
    """A cube rotation moves the held-out voxels as it moves the specimen."""
    rotation = cube_rotations()[9]
    target, labels = _random(1), torch.zeros(SHAPE, dtype=torch.int16)
    labels[:, :18] = 1
    problem = with_hidden_wedge(target, RANGE, NOISE, target, rotation, torch.Generator().manual_seed(0))
    # A mean that is right where the rotated region is, and nowhere else.
    mean = (rotation(labels) == 1) * problem.target
    samples = [_random(2, problem.target.shape), _random(3, problem.target.shape)]

    def share(labels):
        excess, variance = mean_sums(problem, [mean], samples, labels).regions
        return float((excess[1] / variance[1]) / (excess[0] / variance[0]))

    assert share(labels) < 0.96 * share(torch.flip(labels, (0, 1, 2)))


def test_two_sets_of_sums_add_up():
    problem = _problem()
    one = mean_sums(problem, [_random(2)], [_random(4), _random(5)], ALL)
    two = one + one
    torch.testing.assert_close(two.yy, 2 * one.yy)
    torch.testing.assert_close(two.xx, 2 * one.xx)
    assert two.kept.shape[1] == SHELLS
    assert two.kept.shape[-1] == 2 * one.kept.shape[-1]


def test_a_mean_of_more_samples_has_less_of_their_variance():
    problem = _problem()
    sums = mean_sums(problem, [_random(2), 10 * _random(3)], [_random(4), _random(5)], ALL)
    more = sums.averaging(1, 0.25)
    torch.testing.assert_close(more.xx[1, 1], sums.xx[1, 1] - 0.25 * sums.spread)
    torch.testing.assert_close(more.xx[0], sums.xx[0])
