"""The power in the plane across the tilt axis: Parseval, where the wedge lies, and that the edges drawn are the mask's."""

from __future__ import annotations

import numpy as np
import pytest

from cryovae import fourier
from cryovae.evaluation.assessment import as_tensor
from cryovae.evaluation.plane_power import edge_directions, log_power_xz, measured_xz
from cryovae.physics.wedge import volume_mask
from cryovae.tomogram import TiltGeometry

SHAPE = (24, 20, 31)


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)


def test_the_power_is_all_there(noise: np.ndarray) -> None:
    power = 10.0 ** log_power_xz(noise)
    assert power.shape == (24, 31)
    assert power.sum() * SHAPE[1] == pytest.approx(((noise - noise.mean()) ** 2).sum(), rel=1e-3)


def test_the_wedge_is_dark_where_the_edges_are_drawn(noise: np.ndarray) -> None:
    tilts = TiltGeometry.from_range(-40, 60)
    cut = fourier.filtered(as_tensor(noise), volume_mask(SHAPE, tilts)).numpy()
    power = log_power_xz(cut)
    kz, kx = np.meshgrid(np.fft.fftshift(np.fft.fftfreq(24)), np.fft.fftshift(np.fft.fftfreq(31)), indexing="ij")
    angle = np.degrees(np.arctan2(np.where(kx < 0, -kz, kz), np.abs(kx)))
    far = (np.hypot(kz, kx) > 0.25) & (np.abs(kz) < 0.49)
    inside, outside = far & (angle > -35) & (angle < 55), far & ((angle < -47) | (angle > 67))
    assert power[inside].mean() > power[outside].mean() + 1
    assert set(edge_directions(tilts) or {}) == {-40.0, 60.0}


def test_edges_are_where_the_mask_ends() -> None:
    tilts = TiltGeometry.from_range(-40, 60)
    k, mask = measured_xz(tilts)
    for z, x in (edge_directions(tilts) or {}).values():
        at = mask[np.abs(k - 0.3 * z).argmin(), np.abs(k - 0.3 * x).argmin()]
        assert 0.05 < at < 0.95


@pytest.mark.parametrize("tilts", [TiltGeometry((-60, 60), axis_angle=5), TiltGeometry((-60, 60), conical=True)])
def test_edges_that_are_no_lines_are_drawn_from_the_mask(tilts: TiltGeometry) -> None:
    assert edge_directions(tilts) is None
    assert 0 < measured_xz(tilts)[1].mean() < 1


def test_without_a_wedge_there_are_no_edges() -> None:
    assert edge_directions(TiltGeometry.from_range(-90, 90)) == {}
