from dataclasses import replace

import mrcfile
import numpy as np
import pytest
import torch

from cryovae import fourier
from cryovae.errors import InputError
from cryovae.physics.rotation import cube_rotations
from cryovae.physics.wedge import patch_mask, volume_edge, volume_mask, wedge_mask
from cryovae.tomogram import TiltGeometry


def _at(kz, kx, tilts, edge=1e-6):
    return float(wedge_mask(torch.tensor([kz, 0.1, kx])[:, None], tilts, edge))


def test_positive_tilts_extend_the_quadrant_of_equal_signs():
    tilts = TiltGeometry.from_range(-20, 60)
    assert _at(0.1, 0.1, tilts) == 1
    assert _at(-0.1, 0.1, tilts) == 0
    assert _at(-0.1, -0.1, tilts) == 1


@pytest.mark.parametrize(("low", "high"), [(-60, 60), (-45, 63), (-20, 70)])
def test_measured_share_of_a_disc_is_the_share_of_angles(low, high):
    tilts = TiltGeometry.from_range(low, high)
    k = torch.randn(3, 40000, generator=torch.Generator().manual_seed(1))
    assert float(wedge_mask(k, tilts, 1e-9).mean()) == pytest.approx((high - low) / 180, abs=0.01)


@pytest.mark.parametrize("shape", [(8, 8, 8), (10, 12, 9)])
def test_rotated_masks_give_real_densities_and_hard_ones_project(shape, tilts):
    x = torch.randn(shape, dtype=torch.float64)
    rotations = cube_rotations() if len(set(shape)) == 1 else cube_rotations()[:1]
    for g in rotations:
        mask = (patch_mask(shape, tilts, g.matrix) > 0.5).double()
        once = fourier.filtered(x, mask)
        assert torch.allclose(fourier.filtered(once, mask), once)
        full = torch.fft.fftn(once, norm="ortho")[..., : shape[2] // 2 + 1]
        assert torch.allclose(full, fourier.transform(x) * mask, atol=1e-10)


def test_zero_frequency_is_measured_and_the_edge_is_soft(tilts):
    mask = patch_mask((16, 16, 16), tilts)
    assert mask[0, 0, 0] == 1
    assert ((mask > 0.05) & (mask < 0.95)).any()


def test_full_range_has_no_wedge():
    tilts = TiltGeometry.from_range(-90, 90)
    assert not tilts.has_wedge
    assert volume_mask((6, 8, 10), tilts).min() == 1


@pytest.mark.parametrize("angles", [(3.0,), (), (5.0, 5.0), (-95.0, 60.0), (float("nan"), 3.0)])
def test_impossible_tilts_are_refused(angles):
    with pytest.raises(InputError, match=r"expected|give"):
        TiltGeometry(angles)


def test_agrees_with_the_mask_of_isonet2(shared, tilts):
    with mrcfile.open(shared / "geometry/isonet2_missingwedge_64.mrc", permissive=True) as mrc:
        theirs = torch.fft.ifftshift(torch.from_numpy(np.array(mrc.data, dtype=np.float32)))[..., :33]
    ours = volume_mask((64, 64, 64), tilts, 1e-6)
    ball = (fourier.radius((64, 64, 64)) < 0.48) & (fourier.below_nyquist((64, 64, 64)) > 0)
    assert float((ours[ball] == theirs[ball]).float().mean()) > 0.985


@pytest.mark.parametrize("name", ["pytom_e2e_particle_0", "pytom_e2e_particle_1"])
def test_holds_the_power_of_particles_simulated_by_pytom(shared, name, tilts):
    with mrcfile.open(shared / f"geometry/{name}.mrc", permissive=True) as mrc:
        x = torch.from_numpy(np.array(mrc.data, dtype=np.float32))
    power = fourier.transform(x - x.mean()).abs().square()
    assert float((power * (volume_mask(x.shape, tilts, 2.0) == 0)).sum() / power.sum()) < 1e-6


def test_sign_agrees_with_an_asymmetric_tomogram(shared):
    with mrcfile.open(shared / "bench/dense_b_half1.mrc") as mrc:
        x = torch.from_numpy(np.array(mrc.data))
    power = fourier.transform(x - x.mean()).abs().square()

    def outside(low, high):
        return float((power * (volume_mask(x.shape, TiltGeometry.from_range(low, high), 1e-6) < 0.5)).sum() / power.sum())

    assert outside(-45, 63) < 0.01 < outside(-63, 45)


def test_nyquist_planes_of_even_sizes_are_no_part_of_a_patch(tilts):
    mask = patch_mask((8, 10, 12), tilts)
    for plane in (mask[4], mask[:, 5], mask[..., 6]):
        assert float(plane.max()) == 0
    odd = patch_mask((7, 9, 11), tilts)
    assert min(float(odd[3].max()), float(odd[:, 4].max()), float(odd[..., 5].max())) == 1


def test_the_edge_is_as_wide_as_a_bin_across_the_tilt_axis(tilts):
    shape = (40, 20, 30)
    assert volume_edge(shape, tilts) == pytest.approx(1 / 30)
    assert volume_edge(shape, tilts, 2.0) == pytest.approx(2 / 30)
    assert volume_edge(shape, replace(tilts, axis_angle=10.0)) == pytest.approx(1 / 20)
