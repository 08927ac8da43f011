"""Held-out bins tell how far a model's spread is from its error: on Gaussian volumes, whose exact posterior is known."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from cryovae import fourier
from cryovae.calibration.heldout import calibrate
from cryovae.calibration.variance import SHELLS, VarianceCalibration
from cryovae.data.prepare import prepare
from cryovae.models.ladder import LadderConfig
from cryovae.physics.noise import NoiseSpectrum
from cryovae.physics.wedge import volume_mask
from cryovae.tomogram import TiltGeometry, Tomogram

SIGNAL, NOISE, SIDE = 1.0, 0.5, 40
MIDDLE = slice(4, 16)


class Shrinking(nn.Module):
    """Answers with ``gain`` times what it sees, give or take white noise of standard deviation ``spread``."""

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


def _prepared(tilts, seed=0):
    """White signal of variance SIGNAL and noise of variance NOISE, 2 NOISE in each half, in the measured bins."""
    shape = (72, 136, 128)
    rng = torch.Generator().manual_seed(seed)
    mask = volume_mask(shape, tilts, 1e-6)
    signal = fourier.filtered(torch.randn(shape, generator=rng), mask) * SIGNAL**0.5
    halves = [signal + fourier.filtered(torch.randn(shape, generator=rng), mask) * (2 * NOISE) ** 0.5 for _ in range(2)]
    mean = (halves[0] + halves[1]) / 2
    prepared = prepare(Tomogram("t", mean.numpy(), 10.0, tilts, (halves[0].numpy(), halves[1].numpy())), SIDE)
    scale = prepared.scale
    split = tuple((half - prepared.mean) / scale for half in halves)
    return prepared, split, scale


@pytest.mark.parametrize(("short", "alone"), [(1.0, False), (0.5, False), (0.5, True)])
def test_a_spread_too_small_is_widened_to_the_error(tilts, short, alone):
    """What is hidden is not foretold here at all, so the right spread there is that of the signal."""
    prepared, split, scale = _prepared(tilts)
    if alone:
        prepared = replace(prepared, noise=NoiseSpectrum(torch.full_like(prepared.noise.table, NOISE / scale**2), "known"))
    model = Shrinking(0.0, short * SIGNAL**0.5 / scale)
    found = calibrate(model, prepared, SIDE, None if alone else split)
    assert found.spread.hidden.shape == (SHELLS,)
    widened = found.spread.hidden[MIDDLE].sqrt()
    assert float(widened.mean()) == pytest.approx(1 / short, rel=0.08)
    assert found.figures["trained_on"] is False
    assert found.figures["chi2_band"] == pytest.approx(1, abs=0.15)
    assert found.figures["factor_two"] == pytest.approx(2, abs=0.3)
    assert abs(found.figures["coverage"]["0.9"] - 0.9) < 0.03


@pytest.mark.parametrize("alone", [False, True])
def test_the_weight_of_the_data_and_the_error_are_those_of_the_exact_posterior(tilts, alone):
    """A model that answers nothing leaves the data their Wiener weight, and the error S N / (S + N)."""
    prepared, split, scale = _prepared(tilts)
    if alone:
        prepared = replace(prepared, noise=NoiseSpectrum(torch.full_like(prepared.noise.table, NOISE / scale**2), "known"))
    found = calibrate(Shrinking(0.0, 0.9), prepared, SIDE, None if alone else split).spread
    exact = SIGNAL / (SIGNAL + NOISE)
    assert float(found.weight[MIDDLE].mean()) == pytest.approx(exact, abs=0.05)
    assert float(found.error[MIDDLE].mean()) == pytest.approx(exact, abs=0.07)
    assert float(found.copied.table.abs().mean()) < 0.05


def test_a_model_that_has_used_the_data_leaves_them_less_weight(tilts):
    """One that shrinks its input as the exact posterior at half the dose would has nothing to gain from it."""
    prepared, split, _ = _prepared(tilts)
    exact = SIGNAL / (SIGNAL + 2 * NOISE)
    found = calibrate(Shrinking(exact, 0.6), prepared, SIDE, split).spread
    assert float(found.weight[MIDDLE].mean()) < 0.1
    assert float(found.copied.table[4:10].mean()) == pytest.approx(exact, abs=0.05)
    assert float(found.error[MIDDLE].mean()) == pytest.approx(SIGNAL / (SIGNAL + NOISE), abs=0.06)


def test_tables_are_read_between_their_shells():
    table = torch.arange(SHELLS).float()
    assert torch.allclose(VarianceCalibration.at(table, VarianceCalibration.frequency()), table)
    assert float(VarianceCalibration.at(table, torch.tensor(0.8))) == SHELLS - 1


def test_what_is_not_foretold_is_not_put_into_the_wedge(tilts):
    """A model that fills the wedge with what has nothing to do with the truth is given the amplitude 0 there."""

    class Inventing(Shrinking):
        def restore(self, features, noise):
            own = torch.randn(features[0].shape, generator=torch.Generator().manual_seed(9))
            return super().restore([0 * features[0] + own], noise)

        def restore_pair(self, features, noise):
            return self.restore(features, noise) + super().restore_pair([0 * features[0]], noise)

    prepared, split, _ = _prepared(tilts)
    found = calibrate(Inventing(1.0, 0.5), prepared, SIDE, split).spread
    # In the first shells there are few bins, and chance is large.
    assert float(found.amplitude[10:].mean()) < 0.05


def test_a_wedge_too_thin_for_hidden_bins_says_nothing_of_them():
    tilts = TiltGeometry.from_range(-88, 88)
    prepared, split, scale = _prepared(tilts)
    found = calibrate(Shrinking(0.0, 0.5 / scale), prepared, SIDE, split)
    assert "correlation" not in found.figures
    assert torch.equal(found.spread.hidden, torch.ones(SHELLS))
    assert torch.isfinite(found.spread.weight).all()
