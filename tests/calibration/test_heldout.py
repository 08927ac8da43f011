"""Held-out bins show how far a model's spread is from its error: on Gaussian volumes, whose exact posterior is known."""

from dataclasses import replace

import pytest
import torch

from cryovae.calibration.heldout import calibrate
from cryovae.calibration.variance import SHELLS, VarianceCalibration
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
