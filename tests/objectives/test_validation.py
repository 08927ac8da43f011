"""Held-out scores against sums over the full spectrum, and inputs whose own wedge was filled."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cryovae import fourier
from cryovae.data.measurement import MaskingConfig
from cryovae.data.prepare import prepare
from cryovae.data.sampling import cube_rotated
from cryovae.objectives.validation import own_wedge_filled, validation_scores_of

SIDE = 16


@pytest.fixture(scope="module")
def measurement(small):
    prepared = prepare(small, SIDE, masking=MaskingConfig(tolerance=0.1))
    return cube_rotated(prepared, [(2, 3, 4), (8, 20, 9)], [0, 7], SIDE, None)


def _full(table, shape):
    """The full spectrum (batch, z, y, x) of a half spectrum that is equal at k and -k."""
    z, y, x = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
    beyond = x > shape[-1] // 2
    at = tuple(np.where(beyond, -i % n, i) for i, n in zip((z, y, x), shape, strict=True))
    return table.double().numpy()[:, at[0], at[1], at[2]]


def _expected(predicted, m, support):
    shape = m.data.shape[-3:]
    x, y = (np.fft.fftn((support * d).double().numpy(), axes=(1, 2, 3), norm="ortho") for d in (predicted, m.data))
    scored_bins = _full(m.target_mask, shape)
    weight = scored_bins / _full(m.variance + m.model_variance, shape)
    data, misfit, model = ((weight * np.abs(d) ** 2).sum() for d in (y, y - x, x))
    cross = (weight * (x * y.conj()).real).sum()
    return 0.5 * (data - misfit) / scored_bins.sum(), cross / np.sqrt(model * data), misfit / scored_bins.sum()


@pytest.mark.parametrize("supported", [False, True])
def test_scores_are_sums_over_the_full_spectrum(measurement, supported):
    rng = torch.Generator().manual_seed(0)
    support = torch.ones_like(measurement.data)
    m = measurement
    if supported:
        support[:, :5] = 0
        m = replace(m, support=support)
    noise = torch.randn(m.data.shape, generator=rng)
    predicted = 0.8 * m.data + 0.3 * noise
    scores = validation_scores_of(lambda seen: predicted, [m])
    gain, correlation, chi2 = _expected(predicted, m, support)
    assert 0.05 < gain < 3
    assert scores.gain == pytest.approx(gain, rel=1e-3)
    assert scores.correlation == pytest.approx(correlation, rel=1e-3)
    assert scores.chi2 == pytest.approx(chi2, rel=1e-3)


def test_scores_of_several_patches_are_those_of_all_their_bins(measurement):
    m = measurement
    parts = [m.rows(slice(0, 1)), m.rows(slice(1, 2))]
    assert all(float(p.target_mask.sum()) > 0 for p in parts)
    at_once, summed = (validation_scores_of(lambda seen: 0.5 * seen, each) for each in ([m], parts))
    shifted = (validation_scores_of(lambda seen: seen.roll(1, -1) * 3, each) for each in ([m], parts))
    assert summed.chi2 == pytest.approx(at_once.chi2, rel=1e-5)
    one, two = shifted
    assert one.gain == pytest.approx(two.gain, rel=1e-5)


class _Known:
    """Restores a known density, whatever it sees."""

    def __init__(self, density):
        self.density = density

    def encode(self, density, role):
        return [density]

    def restore(self, features, noise):
        return self.density


def test_only_the_wedge_of_the_tilts_is_filled_with_prediction_and_noise(measurement):
    m = replace(measurement, variance=4 * measurement.variance)
    known = 5 * torch.randn(m.data.shape, generator=torch.Generator().manual_seed(2))
    filled = fourier.transform(own_wedge_filled(_Known(known), m).input_masked)
    before, predicted = fourier.transform(m.input_masked), fourier.transform(known)
    inside = fourier.below_nyquist(m.data.shape[-3:]).expand_as(m.mask) > 0
    kept = (m.mask == 1) & (m.input_mask == 1) & inside
    assert int(kept.sum()) > 1000
    assert torch.allclose(filled[kept], before[kept], atol=1e-3)
    scored_bins = (m.mask == 1) & (m.input_mask == 0) & inside
    assert int(scored_bins.sum()) > 100
    assert float(filled[scored_bins].abs().max()) < 1e-3
    wedge = (m.mask == 0) & (m.input_mask == 1) & inside
    wedge[..., 0] = False
    power = (filled - predicted)[wedge].abs().square() / m.variance[wedge]
    assert float(power.mean()) == pytest.approx(1, abs=0.15)
