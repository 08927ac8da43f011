"""Volumes with hidden bins: what is hidden, what is compared, and the sums over shells."""

import pytest
import torch

from cryovae import fourier
from cryovae.calibration.hidden_bins import (
    SHELLS,
    mean_sums,
    split,
    with_hidden_wedge,
    with_other_half,
)
from cryovae.physics.observation import RandomNoise
from cryovae.physics.rotation import cube_rotations, rotated_frequencies, training_rotations
from cryovae.physics.wedge import volume_mask
from cryovae.tomogram import TiltGeometry

SHAPE = (24, 36, 28)
RANGE = TiltGeometry.from_range(-60, 50)
# Noise that is stronger along the beam, so that its rotation shows.
NOISE = RandomNoise(0.3, 0.5, 0.0, 0.8)


def _random(seed, shape=SHAPE):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


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


def test_a_volume_is_split_into_two_of_independent_noise_with_twice_the_variance():
    shape = (40, 44, 36)
    k, mask = fourier.frequencies(shape), volume_mask(shape, RANGE)
    noise = fourier.filtered(_random(0, shape), NOISE(k).sqrt() * mask)
    first, second = split(noise, RANGE, NOISE, torch.Generator().manual_seed(1))
    a, b = fourier.transform(first), fourier.transform(second)
    weight = (mask > 0.99) * fourier.multiplicity(shape) / NOISE(k)
    count = float(((mask > 0.99) * fourier.multiplicity(shape)).sum())
    assert float((weight * a.abs().square()).sum()) / count == pytest.approx(2, rel=0.05)
    assert float((weight * (a * b.conj()).real).sum()) / count == pytest.approx(0, abs=0.05)
    problem = with_other_half(first, second, RANGE, NOISE)
    torch.testing.assert_close(problem.target_noise, 2 * NOISE(k))
    torch.testing.assert_close(problem.noise(k), 2 * NOISE(k))
    assert problem.bins[0, 0, 0] == 0


def test_sums_are_those_over_the_bins():
    """Over the no_wedge volume: Parseval, shell by shell, of means, target, data and samples."""
    first, second = _random(0), _random(1)
    problem = with_other_half(first, second, RANGE, NOISE)
    means, samples = [_random(2), _random(3)], [_random(4), _random(5), _random(6)]
    sums = mean_sums(problem, means, samples, torch.ones(SHAPE))
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


def test_only_what_is_held_out_is_compared():
    """A mean that is right inside the window alone has no error there; outside it has."""
    target, window = _random(1), torch.zeros(SHAPE)
    window[4:20, 8:28, 6:22] = 1.0
    no_wedge = TiltGeometry.from_range(-90, 90)
    problem = with_other_half(_random(0), target, no_wedge, NOISE)

    def error(mean, window):
        s = mean_sums(problem, [mean], [target, -target], window).of(torch.ones(1))
        return float((s.yy - 2 * s.yx + s.xx).sum() / s.yy.sum())

    assert error(target * window, window) < 0.05
    assert error(target * (1 - window), window) > 0.9
    assert error(target * (1 - window), 1 - window) < 0.05


def test_counts_and_noise_are_those_that_the_window_leaves():
    """The target is noise: its power by shell is what is expected of noise, up to the scatter of so many numbers."""
    shape = (40, 44, 36)
    k = fourier.frequencies(shape)
    second = fourier.filtered(_random(0, shape), (2 * NOISE(k)).sqrt())
    window = torch.zeros(shape)
    window[4:28, 10:40, 6:30] = 1.0
    problem = with_other_half(_random(1, shape), second, RANGE, NOISE)
    sums = mean_sums(problem, [second], [second, -second], window)
    for number in range(4, 19):
        assert float(sums.yy[number] / sums.noise[number]) == pytest.approx(1, abs=5 * (2 / float(sums.count[number])) ** 0.5)
    within = problem.bins * (fourier.radius(shape) < 0.5) * fourier.multiplicity(shape)
    assert float(sums.count.sum()) == pytest.approx(float(window.mean()) * float(within.sum()), rel=0.05)


def test_the_window_rotates_with_the_tomogram():
    """A cube rotation moves the held-out voxels as it moves the specimen."""
    rotation = cube_rotations()[9]
    target, window = _random(1), torch.zeros(SHAPE)
    window[:10, :16, :12] = 1.0
    problem = with_hidden_wedge(target, RANGE, NOISE, target, rotation, torch.Generator().manual_seed(0))
    other = torch.flip(window, (0, 1, 2))
    # A mean that is right where the turned window is, and nowhere else.
    mean = rotation(window) * problem.target

    def error(window):
        s = mean_sums(problem, [mean], [mean, -mean], window).of(torch.ones(1))
        return float((s.yy - 2 * s.yx + s.xx).sum() / s.yy.sum())

    assert error(window) < 0.6 * error(other)


def test_two_sets_of_sums_add_up():
    problem = with_other_half(_random(0), _random(1), RANGE, NOISE)
    one = mean_sums(problem, [_random(2)], [_random(4), _random(5)], torch.ones(SHAPE))
    two = one + one
    torch.testing.assert_close(two.yy, 2 * one.yy)
    torch.testing.assert_close(two.xx, 2 * one.xx)
    assert two.kept.shape[1] == SHELLS
    assert two.kept.shape[-1] == 2 * one.kept.shape[-1]


def test_a_mean_of_more_samples_has_less_of_their_variance():
    problem = with_other_half(_random(0), _random(1), RANGE, NOISE)
    sums = mean_sums(problem, [_random(2), 10 * _random(3)], [_random(4), _random(5)], torch.ones(SHAPE))
    more = sums.averaging(1, 0.25)
    torch.testing.assert_close(more.xx[1, 1], sums.xx[1, 1] - 0.25 * sums.spread)
    torch.testing.assert_close(more.xx[0], sums.xx[0])
