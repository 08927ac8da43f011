"""Deterministic networks applied to a tomogram: no seams, the grey scale of the input, the weight of the data."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cryovae import fourier
from cryovae.models.ladder_config import LadderConfig
from cryovae.models.unet import UNet
from cryovae.physics.wedge import smeared_mask, volume_mask
from cryovae.restoration.networks import data_weight, predict_volume, restore_by_network
from cryovae.tomogram import TiltGeometry, Tomogram

SIDE = 16
CPU = torch.device("cpu")
SIZES = LadderConfig(widths=(4, 6, 8), latents=(2, 2, 2), blocks=1)


def test_an_untrained_network_gives_back_the_volume_without_seams() -> None:
    """The U-Net begins as the identity, so what comes out is the volume, of which no tile lost anything but its wedge."""
    full = TiltGeometry.from_range(-90, 90)
    data = torch.randn(20, 37, 26)
    assert torch.allclose(predict_volume(UNet(SIZES), data, full, SIDE, CPU), data, atol=1e-4)
    assert torch.allclose(predict_volume(UNet(SIZES), data, full, SIDE, CPU, overlapping=False), data, atol=1e-4)


def test_the_wedge_of_a_tile_is_emptied_before_the_last_pass() -> None:
    tilts = TiltGeometry.from_range(-60, 60)
    data = torch.randn(SIDE, SIDE, SIDE)
    expected = fourier.filtered(data, smeared_mask((SIDE,) * 3, tilts))
    for twice in (False, True):
        assert torch.allclose(predict_volume(UNet(SIZES), data, tilts, SIDE, CPU, twice=twice), expected, atol=1e-4)


def test_densities_are_on_the_grey_scale_of_the_input(small: Tomogram) -> None:
    restored = restore_by_network(UNet(SIZES), small, SIDE, "deepdewedge", CPU)
    assert restored.halves is not None
    mean = torch.from_numpy(small.density)
    assert restored.mean.shape == mean.shape
    assert torch.corrcoef(torch.stack((restored.mean.flatten(), mean.flatten())))[0, 1] > 0.9
    moved = replace(small, density=5 * small.density + 100, halves=tuple(5 * half + 100 for half in small.halves or ()))
    again = restore_by_network(UNet(SIZES), moved, SIDE, "deepdewedge", CPU)
    assert torch.allclose(again.consistent, 5 * restored.consistent + 100, atol=1e-2)


def test_one_volume_gives_one_density_and_no_weights_of_the_data(small: Tomogram) -> None:
    restored = restore_by_network(UNet(SIZES), replace(small, halves=None), SIDE, "isonet2", CPU)
    assert restored.halves is None
    assert torch.equal(restored.mean, restored.consistent)


@pytest.mark.parametrize(("error", "noise"), [(0.5, 1.0), (1.0, 0.4)])
def test_the_weight_of_the_data_is_wiener(error: float, noise: float) -> None:
    """w = P / (P + sigma^2), P the variance of the network's error, sigma^2 that of the noise of the mean of the halves."""
    shape, rng = (40, 36, 44), torch.Generator().manual_seed(1)
    x = torch.randn(shape, generator=rng)
    halves = [x + noise * 2**0.5 * torch.randn(shape, generator=rng) for _ in range(2)]
    restored = [x + error * torch.randn(shape, generator=rng) for _ in range(2)]
    mask = volume_mask(shape, TiltGeometry.from_range(-60, 60))
    weight = data_weight((restored[0], restored[1]), (halves[0], halves[1]), mask)
    assert weight[mask == 0].max() == 0
    radius = fourier.radius(shape)
    seen = (mask == 1) & (radius > 0.1) & (radius < 0.4)
    assert weight[seen].mean().item() == pytest.approx(error**2 / (error**2 + noise**2), abs=0.02)
