"""Deterministic networks trained and applied: no seams, refills in the wedge alone, the weight of the data, resuming."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from cryovae import fourier
from cryovae.errors import InputError
from cryovae.models.ladder import LadderConfig
from cryovae.models.unet import UNet
from cryovae.physics.wedge import smeared_mask, volume_mask
from cryovae.tomogram import TiltGeometry, Tomogram
from cryovae.training.regress import Regressor, apply, regressed, weight_of_data
from cryovae.training.trainer import Interrupted, TrainingConfig

SIDE = 16
CPU = torch.device("cpu")
SIZES = LadderConfig(widths=(4, 6, 8), latents=(2, 2, 2), blocks=1)


def made(tomogram: Tomogram, objective: str = "deepdewedge", steps: int = 5) -> Regressor:
    torch.manual_seed(0)
    return Regressor(UNet(SIZES), [tomogram], TrainingConfig(patch=SIDE, batch=1, steps=steps), objective, CPU)


def test_an_untrained_network_gives_back_the_volume_without_seams() -> None:
    """The U-Net begins as the identity, so what comes out is the volume, of which no tile lost anything but its wedge."""
    full = TiltGeometry.from_range(-90, 90)
    data = torch.randn(20, 37, 26)
    assert torch.allclose(apply(UNet(SIZES), data, full, SIDE, CPU), data, atol=1e-4)
    assert torch.allclose(apply(UNet(SIZES), data, full, SIDE, CPU, overlapping=False), data, atol=1e-4)


def test_tiles_are_given_without_their_wedge_once_or_after_a_first_pass() -> None:
    tilts = TiltGeometry.from_range(-60, 60)
    data = torch.randn(SIDE, SIDE, SIDE)
    expected = fourier.filtered(data, smeared_mask((SIDE,) * 3, tilts))
    for twice in (False, True):
        assert torch.allclose(apply(UNet(SIZES), data, tilts, SIDE, CPU, twice=twice), expected, atol=1e-4)


def test_answers_are_on_the_grey_scale_of_the_input(small: Tomogram) -> None:
    found = regressed(UNet(SIZES), small, SIDE, "deepdewedge", CPU)
    assert found.halves is not None
    mean = torch.from_numpy(small.density)
    assert found.mean.shape == mean.shape
    assert torch.corrcoef(torch.stack((found.mean.flatten(), mean.flatten())))[0, 1] > 0.9
    moved = replace(small, density=5 * small.density + 100, halves=tuple(5 * half + 100 for half in small.halves or ()))
    again = regressed(UNet(SIZES), moved, SIDE, "deepdewedge", CPU)
    assert torch.allclose(again.consistent, 5 * found.consistent + 100, atol=1e-2)


def test_one_volume_has_one_answer_and_no_weights_of_the_data(small: Tomogram) -> None:
    found = regressed(UNet(SIZES), replace(small, halves=None), SIDE, "isonet2", CPU)
    assert found.halves is None
    assert torch.equal(found.mean, found.consistent)


@pytest.mark.parametrize(("error", "noise"), [(0.5, 1.0), (1.0, 0.4)])
def test_the_weight_of_the_data_is_wiener(error: float, noise: float) -> None:
    """w = P / (P + sigma^2), P the variance of the answers' error, sigma^2 that of the noise of the mean of the halves."""
    shape, rng = (40, 36, 44), torch.Generator().manual_seed(1)
    x = torch.randn(shape, generator=rng)
    halves = [x + noise * 2**0.5 * torch.randn(shape, generator=rng) for _ in range(2)]
    answers = [x + error * torch.randn(shape, generator=rng) for _ in range(2)]
    mask = volume_mask(shape, TiltGeometry.from_range(-60, 60))
    found = weight_of_data((answers[0], answers[1]), (halves[0], halves[1]), mask)
    assert found[mask == 0].max() == 0
    radius = fourier.radius(shape)
    seen = (mask == 1) & (radius > 0.1) & (radius < 0.4)
    assert found[seen].mean().item() == pytest.approx(error**2 / (error**2 + noise**2), abs=0.02)


def test_a_refill_changes_the_wedge_of_the_inputs_and_never_the_targets(small: Tomogram) -> None:
    regressor = made(small)
    torch.nn.init.normal_(regressor.average.out.weight, std=0.3)
    before = [half.clone() for half in regressor.data[0].given]
    regressor.refill()
    mask = volume_mask(small.shape, small.tilts)
    for filled, given, old in zip(regressor.data[0].filled, regressor.data[0].given, before, strict=True):
        change = fourier.transform(filled - given).abs()
        assert change[mask == 1].max() < 1e-4
        assert change[mask == 0].mean() > 1e-3
        assert torch.equal(given, old)
    assert [made(small, name).refills() for name in ("deepdewedge", "isonet2", "icecream")] == [4, 0, 0]


@pytest.mark.parametrize("objective", ["deepdewedge", "isonet2"])
def test_a_resumed_run_is_the_uninterrupted_one(small: Tomogram, objective: str) -> None:
    whole, stopped, resumed = (made(small, objective) for _ in range(3))
    expected = whole.run()
    saved: list[dict[str, Any]] = []
    with pytest.raises(Interrupted):
        stopped.run(save=saved.append, stop=lambda: stopped.step == 3)
    resumed.resume(saved[0])
    found = resumed.run()
    for a, b in zip(expected.parameters(), found.parameters(), strict=True):
        assert torch.equal(a, b)


def test_an_unknown_objective_is_refused(small: Tomogram) -> None:
    with pytest.raises(InputError, match="deepdewedge"):
        made(small, "isonet9")
