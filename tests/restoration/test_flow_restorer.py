"""Restoring by the generative model, with tiny models of random weights and with posteriors that are known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cryovae import fourier
from cryovae.calibration.factors import Factors
from cryovae.calibration.hidden_bins import SHELLS
from cryovae.data.prepare import prepare
from cryovae.errors import InputError
from cryovae.io.fill import with_fill
from cryovae.physics.wedge import volume_mask
from cryovae.posterior.flow_posterior import FlowPosterior, VolumeData
from cryovae.restoration.config import RestoreConfig
from cryovae.restoration.flow_restorer import FlowRestorer, Part, _bounded, _mean, _spread
from cryovae.tomogram import TiltGeometry
from tests.helpers.generative import tiny_generator

CPU = torch.device("cpu")
RANGE = TiltGeometry.from_range(-60, 60)
SHAPE = (24, 36, 28)


def _restored(tomogram, ladder, watch=lambda done, total: None, seed=0, **settings):
    config = RestoreConfig(**({"samples": 2, "samples_out": 2, "sampler": "flow", "seed": seed} | settings))
    posterior = FlowPosterior(tiny_generator().taking_estimates(), ladder, 16, 16, CPU, 2, seed)
    return FlowRestorer(posterior, 16, config, watch)(tomogram)


@pytest.fixture
def restored(small, ladder):
    return _restored(small, ladder)


def test_all_results_are_on_the_grey_scale_of_the_input(restored, small):
    volumes = [restored.mean, restored.std, *restored.samples, *restored.halves]
    assert len(restored.samples) == 2
    assert all(volume.shape == small.shape and bool(torch.isfinite(volume).all()) for volume in volumes)
    assert float(restored.mean.mean()) == pytest.approx(float(small.density.mean()), abs=0.02 * float(small.density.std()))
    assert bool((restored.std > 0).all())


def test_the_record_says_what_held_out_bins_showed(restored):
    held_out = restored.held_out
    assert set(held_out["mean"]) == {"completion", "predicted", "average"}
    assert held_out["bins"] > 0
    assert held_out["measured"]["bins"] > 0
    assert len(held_out["spread_factor"]) == len(held_out["spread_error"]) == SHELLS


def test_the_same_seed_gives_the_same_result(restored, small, ladder):
    again = _restored(small, ladder)
    assert torch.equal(again.mean, restored.mean)
    assert torch.equal(again.samples[1], restored.samples[1])
    assert not torch.equal(_restored(small, ladder, seed=1).samples[1], restored.samples[1])


def test_progress_ends_where_it_said(small, ladder):
    calls = []
    _restored(small, ladder, lambda done, total: calls.append((done, total)))
    totals = {total for _, total in calls}
    assert len(totals) == 1
    # All but the last call are made as tiles are done, and those are as many as were announced.
    assert calls[-2][0] == calls[-2][1] == totals.pop()


def test_fill_stays_as_it_was(small, ladder):
    density = small.density.copy()
    density[:, :, 24:] = 7.0
    halves = tuple(np.where(np.arange(small.shape[2]) >= 24, 7.0, half).astype(np.float32) for half in small.halves)
    filled = with_fill(replace(small, density=density, halves=halves))
    restored = _restored(filled, ladder)
    assert np.all(restored.mean.numpy()[:, :, 24:] == 7.0)
    assert np.all(restored.std.numpy()[:, :, 24:] == 0.0)
    assert float(restored.std[:, :, :24].min()) > 0


def test_noise_alone_is_refused(small, ladder):
    rng = np.random.default_rng(0)
    halves = tuple(rng.normal(size=small.shape).astype(np.float32) for _ in range(2))
    noise = replace(small, density=(halves[0] + halves[1]) / 2, halves=halves)
    with pytest.raises(InputError, match="noise alone"):
        _restored(noise, ladder)


@pytest.mark.parametrize("halves", [True, False])
def test_without_a_wedge_measured_bins_alone_are_fitted(small, ladder, halves):
    no_wedge = replace(small, tilts=TiltGeometry.from_range(-90, 90), halves=small.halves if halves else None)
    restored = _restored(no_wedge, ladder)
    assert "correlation" not in restored.held_out
    assert restored.held_out["measured"]["bins"] > 0
    assert (restored.halves is None) != halves


def test_without_calibration_the_average_and_the_samples_are_as_drawn(small, ladder):
    config = RestoreConfig(samples=2, samples_out=2, sampler="flow", calibrate=False, halves=False)
    posterior = FlowPosterior(tiny_generator(), None, 16, 16, CPU, 2, 0)
    restored = FlowRestorer(posterior, 16, config)(small)
    prepared = prepare(small, 16, 0)
    volume = VolumeData.of(prepared)
    drawing = FlowPosterior(tiny_generator(), None, 16, 16, CPU, 2, 0).samples(volume, torch.zeros(small.shape))
    first, second = drawing(0), drawing(1)
    average = (first + second) / 2
    torch.testing.assert_close((restored.mean - prepared.mean) / prepared.scale, average - average.mean(), atol=2e-3, rtol=1e-3)
    # Two samples are drawn apart to the variance of one.
    distance = (restored.samples[0] - restored.samples[1]) / prepared.scale
    expected = (first - second) * 2**0.5
    torch.testing.assert_close(distance, expected - expected.mean(), atol=2e-3, rtol=1e-3)
    assert restored.held_out is None


def _random(seed):
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def _factors(scale=1.0, amplitude=1.0, weight=0.0):
    return Factors(*(value * torch.ones(SHELLS) for value in (scale, 0.0, amplitude, weight)))


def test_each_kind_of_bins_has_its_own_mean():
    means, data, mask = [_random(n) for n in range(3)], _random(9), volume_mask(SHAPE, RANGE)
    wedge = Part(torch.tensor([1.0, 0.0, 0.0]), _factors(amplitude=0.5))
    measured = Part(torch.tensor([0.0, 0.0, 1.0]), _factors(weight=0.25))
    spectrum = fourier.transform(_mean(means, data, mask, (wedge, measured)))
    empty, full = mask == 0, mask == 1
    full[0, 0, 0] = False
    torch.testing.assert_close(spectrum[empty], 0.5 * fourier.transform(means[0])[empty], atol=1e-4, rtol=1e-4)
    expected = 0.75 * fourier.transform(means[2]) + 0.25 * fourier.transform(data)
    torch.testing.assert_close(spectrum[full], expected[full], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(spectrum[0, 0, 0], fourier.transform(data)[0, 0, 0], atol=1e-4, rtol=1e-4)


def test_samples_vary_about_the_mean_by_the_factor():
    samples, mean, mask = [_random(n) for n in range(8)], 3 * _random(20), volume_mask(SHAPE, RANGE)
    parts = (Part(torch.ones(1), _factors(scale=4.0)), Part(torch.ones(1), _factors(scale=0.25)))
    spread = _spread(samples, mean, mask, parts)
    torch.testing.assert_close(torch.stack(spread).mean(0), mean, atol=1e-4, rtol=1e-4)
    variance = torch.stack([fourier.transform(sample - mean).abs().square() for sample in spread]).mean(0)
    for bins, expected in ((mask == 0, 4.0), (mask == 1, 0.25)):
        assert float(variance[bins].mean()) == pytest.approx(expected, rel=0.03)


def test_no_error_of_measured_bins_is_larger_than_the_noise():
    """Samples of variance 1 where the noise has 0.3: the data alone would be nearer."""
    samples, mask = [_random(n) for n in range(8)], volume_mask(SHAPE, RANGE)
    volume = VolumeData(_random(9), RANGE, lambda k: torch.full(k.shape[1:], 0.3), 1.0)
    bounded = _bounded(Part(torch.ones(1), _factors(scale=2.0)), samples, mask, volume)
    assert float(bounded.factors.scale[4:12].mean()) == pytest.approx(0.3, rel=0.1)
    small = _bounded(Part(torch.ones(1), _factors(scale=0.01)), samples, mask, volume)
    torch.testing.assert_close(small.factors.scale[4:12], torch.full((8,), 0.01))
