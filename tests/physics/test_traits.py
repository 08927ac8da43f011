"""Traits of a tomogram: the power of its shells, the share of it that is signal, and the share of bins that were measured."""

import pytest
import torch

from cryovae import fourier
from cryovae.physics.observation import RandomNoise
from cryovae.physics.traits import SHELLS, TRAITS, traits_of, without_noise
from cryovae.physics.wedge import volume_mask
from cryovae.tomogram import TiltGeometry

RANGE = TiltGeometry.from_range(-60, 60)
SHAPE = (40, 48, 32)
WHITE = RandomNoise(1.0, 0.0, 0.0, 0.0)


def _parts(traits):
    return traits[:SHELLS], traits[SHELLS : 2 * SHELLS], float(traits[-2]), float(traits[-1])


def _noise(count=12, tilts=RANGE, seed=0):
    white = torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed))
    return torch.stack([fourier.filtered(x, volume_mask(SHAPE, tilts)) for x in white])


def test_white_noise_has_a_power_of_one_in_all_shells_whatever_is_missing():
    power, signal, known, _ = _parts(traits_of(_noise(), RANGE, WHITE))
    # The taper carries a little of what is near the wedge into it, the more the coarser the shell.
    assert -0.25 < power.min() < power.max() < 0.05
    assert power[8:].abs().max() < 0.06
    assert signal.max() < 0.05
    assert known == 1


def test_without_noise_all_is_signal():
    _, signal, _, _ = _parts(traits_of(_noise(), RANGE, RandomNoise(1e-9, 0.0, 0.0, 0.0)))
    torch.testing.assert_close(signal, torch.ones(SHELLS))


def test_the_share_of_signal_is_that_of_the_power():
    data = 2 * _noise()
    _, signal, _, _ = _parts(traits_of(data, RANGE, WHITE))
    assert (signal[8:] - 0.75).abs().max() < 0.03


def test_a_zero_of_the_contrast_transfer_shows_in_its_shell():
    radius = fourier.radius(SHAPE)
    shell = 8
    passed = 1 - torch.exp(-(((radius * 2 * SHELLS - shell) / 0.8) ** 2))
    data = torch.stack([fourier.filtered(x, passed) for x in _noise()])
    power = _parts(traits_of(data, RANGE, None))[0]
    assert int(power.argmin()) == shell - 1
    assert power[shell - 1] < power[shell + 3] - 0.3


def test_noise_that_nobody_knows_leaves_no_trace():
    known, unknown = traits_of(_noise(), RANGE, WHITE), traits_of(_noise(), RANGE, None)
    torch.testing.assert_close(without_noise(known), unknown)
    assert unknown.shape == (TRAITS,)
    assert float(unknown[SHELLS : 2 * SHELLS + 1].abs().max()) == 0


@pytest.mark.parametrize("last", [40, 60, 75])
def test_the_share_of_measured_bins_grows_with_the_tilts(last):
    share = _parts(traits_of(_noise(2), TiltGeometry.from_range(-last, last), None))[3]
    # A range of 2 t degrees of 180 sweeps about that share of Fourier space.
    assert abs(share - 2 * last / 180) < 0.06
