"""Held-out bins show how far a model's spread is from its error: on Gaussian volumes, whose exact posterior is known."""

from dataclasses import replace

import pytest
import torch
from scipy.stats import norm

from cryovae import fourier
from cryovae.calibration.figures import PatchSums, held_out_figures
from cryovae.calibration.heldout import _spectra, _target_sums, calibrate
from cryovae.calibration.variance import BINS, CROSS, DATA, MISFIT, MODEL, SHELLS, VARIANCE, VarianceCalibration
from cryovae.data.prepare import prepare
from cryovae.data.sampling import held_out
from cryovae.physics.noise import NoiseSpectrum
from cryovae.tomogram import TiltGeometry
from tests.helpers.calibration import NOISE, SIDE, SIGNAL, Shrinking, prepared_white, split_noise

MIDDLE = slice(4, 16)


@pytest.mark.parametrize(("short", "alone"), [(1.0, False), (0.5, False), (0.5, True)])
def test_a_spread_too_small_is_widened_to_the_error(tilts, short, alone):
    """Target bins are not predicted here at all, so the right variance there is that of the signal."""
    prepared, halves, scale = prepared_white(tilts)
    if alone:
        prepared = replace(prepared, noise=NoiseSpectrum(torch.full_like(prepared.noise.table, NOISE / scale**2), "known"))
    model = Shrinking(0.0, short * SIGNAL**0.5 / scale)
    result = calibrate(model, prepared, SIDE, None if alone else halves, split_noise(prepared))
    assert result.variance.wedge_scale.shape == (SHELLS,)
    widened = result.variance.wedge_scale[MIDDLE].sqrt()
    assert float(widened.mean()) == pytest.approx(1 / short, rel=0.08)
    assert result.figures["trained_on"] is False
    assert result.figures["chi2_band"] == pytest.approx(1, abs=0.15)
    assert result.figures["factor_two"] == pytest.approx(2, abs=0.3)
    assert abs(result.figures["coverage"]["0.9"] - 0.9) < 0.03


@pytest.mark.parametrize("alone", [False, True])
def test_data_weight_and_error_are_those_of_the_exact_posterior(tilts, alone):
    """A model that predicts nothing leaves the data their Wiener weight, and the error S N / (S + N)."""
    prepared, halves, scale = prepared_white(tilts)
    if alone:
        prepared = replace(prepared, noise=NoiseSpectrum(torch.full_like(prepared.noise.table, NOISE / scale**2), "known"))
    variance = calibrate(Shrinking(0.0, 0.9), prepared, SIDE, None if alone else halves, split_noise(prepared)).variance
    exact = SIGNAL / (SIGNAL + NOISE)
    assert float(variance.data_weight[MIDDLE].mean()) == pytest.approx(exact, abs=0.05)
    assert float(variance.error[MIDDLE].mean()) == pytest.approx(exact, abs=0.07)
    assert float(variance.noise_gain.table.abs().mean()) < 0.05


def test_a_model_that_used_the_data_leaves_them_less_weight(tilts):
    """One that shrinks its input as the exact posterior at half the dose would has nothing to gain from it."""
    prepared, halves, _ = prepared_white(tilts)
    exact = SIGNAL / (SIGNAL + 2 * NOISE)
    variance = calibrate(Shrinking(exact, 0.6), prepared, SIDE, halves, split_noise(prepared)).variance
    assert float(variance.data_weight[MIDDLE].mean()) < 0.1
    assert float(variance.noise_gain.table[4:10].mean()) == pytest.approx(exact, abs=0.05)
    assert float(variance.error[MIDDLE].mean()) == pytest.approx(SIGNAL / (SIGNAL + NOISE), abs=0.06)


def test_tables_are_read_between_their_shells():
    table = torch.arange(SHELLS).float()
    assert torch.allclose(VarianceCalibration.at(table, VarianceCalibration.frequency()), table)
    assert float(VarianceCalibration.at(table, torch.tensor(0.8))) == SHELLS - 1


def test_noise_is_not_put_into_the_wedge(tilts):
    """A model that fills the wedge with what has nothing to do with the truth is given the amplitude 0 there."""

    class Inventing(Shrinking):
        def restore(self, features, noise):
            own = torch.randn(features[0].shape, generator=torch.Generator().manual_seed(9))
            return super().restore([0 * features[0] + own], noise)

        def restore_pair(self, features, noise):
            return self.restore(features, noise) + super().restore_pair([0 * features[0]], noise)

    prepared, halves, _ = prepared_white(tilts)
    variance = calibrate(Inventing(1.0, 0.5), prepared, SIDE, halves, split_noise(prepared)).variance
    # In the first shells there are few bins, and chance is large.
    assert float(variance.wedge_amplitude[10:].mean()) < 0.05


def test_a_wedge_too_thin_for_target_bins_is_left_as_it_is():
    tilts = TiltGeometry.from_range(-88, 88)
    prepared, halves, scale = prepared_white(tilts)
    result = calibrate(Shrinking(0.0, 0.5 / scale), prepared, SIDE, halves, split_noise(prepared))
    assert "correlation" not in result.figures
    assert torch.equal(result.variance.wedge_scale, torch.ones(SHELLS))
    assert torch.isfinite(result.variance.data_weight).all()


def test_errors_are_judged_by_variances_fitted_to_other_patches():
    """Of two patches with errors of 8 and 0.5, each is covered as the other's variance says: half, and almost all."""
    count, patches = 4000, []
    for number, error in enumerate((8.0, 0.5)):
        sums = torch.zeros(6, SHELLS, dtype=torch.float64)
        sums[BINS], sums[MISFIT], sums[VARIANCE] = count, count * (1 + error), count
        sums[CROSS] = sums[MODEL] = 30 * count
        bins = torch.zeros(6, count)
        bins[:2] = ((1 + error) / 2) ** 0.5 * torch.randn(2, count, generator=torch.Generator().manual_seed(number))
        bins[4], bins[5] = 1.0, 3.0
        patches.append(PatchSums(sums, sums[..., None], bins))
    power = torch.full((SHELLS,), 1e3, dtype=torch.float64)
    coverage = held_out_figures(patches, (torch.ones(SHELLS), torch.ones(SHELLS)), power)["coverage"]["0.9"]
    expected = [2 * norm.cdf(norm.ppf(0.95) * (one / other) ** 0.5) - 1 for one, other in ((1.5, 9.0), (9.0, 1.5))]
    assert coverage == pytest.approx(sum(expected) / 2, abs=0.02)


def test_the_variance_of_few_samples_is_unbiased_bin_by_bin():
    """Of two pairs with independent means and half differences, of variances 1 and 2."""
    rng = torch.Generator().manual_seed(0)
    means, halves = torch.randn(2, 2, 1, 16, 18, 14, generator=rng)
    ones = torch.ones(16, 18, 8)
    x, variance = _spectra(means[0], means, 2**0.5 * halves, ones, torch.ones(16, 18, 14))
    inner = slice(1, 7)
    assert float(variance[..., inner].mean()) == pytest.approx(3, rel=0.05)
    assert float(x[..., inner].abs().square().mean()) == pytest.approx(1, rel=0.06)


def test_sums_of_a_prediction_that_is_a_share_of_the_data(tomogram, monkeypatch):
    """Four fifths of the data in the measured bins correlate with them, and five quarters of them are the data."""
    m = held_out(prepare(tomogram, 16), 16)[0]
    predicted = fourier.filtered(0.8 * m.data, m.mask)
    means = torch.stack((predicted, predicted))
    monkeypatch.setattr("cryovae.calibration.heldout._samples", lambda patches, seen: (predicted, means, 0 * means))
    sums = _target_sums(None, m).sums
    total = sums.sum(-1)
    # The window smears some of the measured bins into others.
    assert float(total[CROSS] / (total[MODEL] * total[DATA]).sqrt()) > 0.9
    assert float(total[CROSS] / total[MODEL]) == pytest.approx(1 / 0.8, rel=0.15)
    assert float(total[MISFIT] - total[DATA] + 2 * total[CROSS] - total[MODEL]) == pytest.approx(0, abs=1e-2 * float(total[DATA]))
    assert float(sums[VARIANCE].abs().max()) < 1e-3 * float(sums[DATA].max())
