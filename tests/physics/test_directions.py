"""Masks against the power spectra of phantoms that were projected at those tilts and back-projected."""

from dataclasses import replace
from math import cos, radians, sin

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from cryovae import fourier
from cryovae.errors import InputError
from cryovae.physics.directions import tilt_mask
from cryovae.physics.projection import project, weighted_back_projection
from cryovae.physics.rotation import random_rotation, rotated_frequencies, symmetry_rotations, training_rotations, wedge_share
from cryovae.physics.wedge import patch_mask, volume_mask
from cryovae.tomogram import TiltGeometry

SHAPE = (52, 44, 48)
SERIES = tuple(float(a) for a in range(-60, 61, 3))


def _blobs(rotation=None, extent=9.0):
    """Small Gaussian blobs about the centre of a volume whose content is rotated by ``rotation`` (3, 3), r = (z, y, x)."""
    rng = np.random.default_rng(4)
    places = rng.normal(size=(30, 3)) * extent / 2
    heights = rng.normal(size=30)
    grid = np.stack(np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in SHAPE], indexing="ij"), -1)
    density = np.zeros(SHAPE)
    for place, height in zip(places if rotation is None else places @ rotation.T, heights, strict=True):
        density += height * np.exp(-((grid - place) ** 2).sum(-1) / (2 * 1.3**2))
    return torch.from_numpy(density).float()


def _frame(tilts):
    """(3, 3) matrix from (z, y, x) to coordinates along the beam, the tilt axis, and across, straight from the definition."""
    phi, chi = radians(tilts.axis_angle), radians(tilts.x_tilt)
    in_plane = np.array([[1, 0, 0], [0, cos(phi), sin(phi)], [0, -sin(phi), cos(phi)]])
    lift = np.array([[cos(chi), -sin(chi), 0], [sin(chi), cos(chi), 0], [0, 0, 1]])
    return lift @ in_plane


def _reconstructed(tilts):
    """The blobs as a tilt series of this geometry shows them, the second axis added to the first."""
    frame = _frame(tilts)
    angles = sorted(tilts.angles)
    seen = weighted_back_projection(project(_blobs(frame), angles, width=80), angles, SHAPE).numpy()
    grid = np.stack(np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in SHAPE], indexing="ij"), -1)
    source = np.moveaxis(grid @ frame.T + (np.array(SHAPE) - 1) / 2, -1, 0)
    observed = seen if np.allclose(frame, np.eye(3)) else map_coordinates(seen, source, order=5)
    return torch.from_numpy(observed) + (_reconstructed(tilts.second) if tilts.second else 0)


def _power(density):
    for axis, size in enumerate(density.shape):
        window = torch.hann_window(size + 2, periodic=False)[1:-1]
        density = density * window.view([-1 if a == axis else 1 for a in range(3)])
    return fourier.transform(density).abs().square()


def _share(density, tilts):
    """Mean power where the mask says missing over that where it says measured, between 0.06 and 0.2 cycles per voxel."""
    mask = tilt_mask(fourier.frequencies(SHAPE), tilts, 3.0 / min(SHAPE))
    radius = fourier.radius(SHAPE)
    band = (radius > 0.06) & (radius < 0.2)
    power = _power(density)
    missing, measured = power[band & (mask == 0)], power[band & (mask == 1)]
    assert len(missing) > 100 < len(measured)
    return float(missing.mean() / measured.mean())


@pytest.mark.parametrize(
    ("tilts", "wrong"),
    [
        (TiltGeometry(tuple(range(-42, 64, 3))), {"angles": tuple(range(-63, 43, 3))}),
        (TiltGeometry(SERIES, axis_angle=17.0), {"axis_angle": -17.0}),
        (TiltGeometry(SERIES[5:], axis_angle=-80.0), {"axis_angle": 100.0}),
        (TiltGeometry(SERIES, x_tilt=14.0), {"x_tilt": -14.0}),
        (TiltGeometry(SERIES, axis_angle=30.0, x_tilt=14.0), {"axis_angle": 0.0}),
        (TiltGeometry(tuple(a for a in SERIES if not -9 < a < 28)), {"angles": tuple(a for a in SERIES if not -28 < a < 9)}),
        (TiltGeometry(SERIES, second=TiltGeometry(SERIES[6:], axis_angle=90.0)), {"second": TiltGeometry(SERIES[:-6], 90.0)}),
    ],
    ids=["asymmetric", "in plane", "axis along x", "x tilt", "in plane and x tilt", "gap", "dual axis"],
)
def test_masks_hold_the_power_of_projected_and_back_projected_phantoms(tilts, wrong):
    density = _reconstructed(tilts)
    right = _share(density, tilts)
    assert right < 0.01
    assert _share(density, replace(tilts, **wrong)) > 5 * right


def test_pretilt_is_added_to_the_angles():
    """A specimen that lies tilted in the holder, put level by reconstructing with the pre-tilt added to the angles."""
    pretilt = 12.0
    c, s = cos(radians(pretilt)), sin(radians(pretilt))
    tilted_axis = np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]])
    angles = [a + pretilt for a in SERIES[:-4]]
    images, level = project(_blobs(tilted_axis), SERIES[:-4], width=80), project(_blobs(), angles, width=80)
    assert float((images - level).abs().max()) < 0.05 * float(level.abs().max())
    density = weighted_back_projection(images, angles, SHAPE)
    assert _share(density, TiltGeometry(tuple(angles))) < 0.01


def test_a_tilt_of_a_thin_specimen_measures_a_slab():
    thickness = 14.0
    density = weighted_back_projection(project(_blobs(extent=14.0), SERIES, width=80), SERIES, SHAPE)
    z = torch.arange(SHAPE[0]) - (SHAPE[0] - 1) / 2
    power = _power(density * (z.abs() < thickness / 2).view(-1, 1, 1))
    plane = tilt_mask(fourier.frequencies(SHAPE), TiltGeometry(SERIES), 1e-6) > 0.5
    slab = tilt_mask(fourier.frequencies(SHAPE), TiltGeometry(SERIES, thickness=thickness), 1e-6) > 0.5
    far = tilt_mask(fourier.frequencies(SHAPE), TiltGeometry(SERIES, thickness=thickness / 2), 1e-6) > 0.5
    radius = fourier.radius(SHAPE)
    band = (radius > 0.08) & (radius < 0.25)
    measured = float(power[band & plane].mean())
    assert float(power[band & slab & ~plane].mean()) > 0.25 * measured
    assert float(power[band & ~far].mean()) < 0.05 * measured
    assert (slab & ~plane).any()
    assert not (plane & ~slab).any()


def test_a_cone_is_what_many_axes_leave():
    k = torch.randn(3, 4000, generator=torch.Generator().manual_seed(2))
    cone = tilt_mask(k, TiltGeometry((-50.0, 50.0), conical=True), 1e-6)
    many = torch.stack([tilt_mask(k, TiltGeometry((-50.0, 50.0), axis_angle=a), 1e-6) for a in range(180)]).amax(0)
    assert float((cone == many).float().mean()) > 0.99
    assert float(cone.mean()) == pytest.approx(sin(radians(50)), abs=0.02)


def test_the_second_axis_adds_and_takes_nothing_away():
    k = torch.randn(3, 4000, generator=torch.Generator().manual_seed(3))
    first, second = TiltGeometry((-60.0, 60.0)), TiltGeometry((-50.0, 55.0), axis_angle=90.0)
    both = tilt_mask(k, replace(first, second=second), 0.1)
    assert torch.equal(both, torch.maximum(tilt_mask(k, first, 0.1), tilt_mask(k, second, 0.1)))
    assert replace(first, second=TiltGeometry((-90.0, 90.0))).has_wedge is False


def test_gaps_are_where_tilts_are_missing_and_nowhere_else():
    assert TiltGeometry(SERIES).ranges == ((-60.0, 60.0),)
    assert TiltGeometry((-60.0, 60.0)).ranges == ((-60.0, 60.0),)
    holed = TiltGeometry(tuple(a for a in SERIES if not -9 < a < 28))
    assert holed.ranges == ((-60.0, -9.0), (30.0, 60.0))
    assert holed.missing == pytest.approx(99.0)
    assert TiltGeometry((*SERIES[:10], 0.0, *SERIES[-10:])).ranges[1] == (-1.5, 1.5)
    # One tilt that was left out, and a scheme whose step shrinks with the tilt, leave no gap.
    assert len(TiltGeometry(tuple(a for a in SERIES if a != 12)).ranges) == 1
    assert len(TiltGeometry(tuple(60 * sin(radians(a)) for a in range(-90, 91, 5))).ranges) == 1
    assert TiltGeometry(tuple(float(a) for a in range(-90, 91, 2) if abs(a) > 20)).has_wedge


def test_cosine_weights_change_nothing_and_a_tilt_without_dose_is_missing():
    k = torch.randn(3, 4000, generator=torch.Generator().manual_seed(5))
    plain = tilt_mask(k, TiltGeometry(SERIES), 0.1)
    cosine = TiltGeometry(SERIES, weights=tuple(cos(radians(a)) for a in SERIES))
    assert torch.equal(tilt_mask(k, cosine, 0.1), plain)
    dark = TiltGeometry(SERIES, weights=tuple(0.0 if a > 40 else 1.0 for a in SERIES))
    assert torch.allclose(tilt_mask(k, dark, 0.1), tilt_mask(k, TiltGeometry((-60.0, 39.0)), 0.1))
    dim = tilt_mask(k, TiltGeometry(SERIES, weights=tuple(0.2 if a > 40 else 1.0 for a in SERIES)), 1e-6)
    assert float(dim.min()) == 0
    assert float(dim[dim > 0].min()) == pytest.approx(0.4)
    assert float(dim.max()) == 1
    assert bool((dim <= tilt_mask(k, TiltGeometry(SERIES), 1e-6)).all())


@pytest.mark.parametrize(
    "tilts",
    [
        TiltGeometry(SERIES, axis_angle=12.0, x_tilt=5.0),
        TiltGeometry(SERIES[4:], second=TiltGeometry(SERIES, axis_angle=88.0)),
        TiltGeometry(tuple(a for a in SERIES if not -9 < a < 28), thickness=30.0),
        TiltGeometry((-60.0, 60.0), conical=True),
    ],
    ids=["off axis", "dual axis", "gap and slab", "cone"],
)
def test_rotated_masks_of_any_geometry_give_real_densities(tilts):
    """A hard mask is a projector only if opposite frequencies have one value."""
    rng = np.random.default_rng(0)
    x = torch.randn(9, 9, 9, dtype=torch.float64)
    for rotation in (None, random_rotation(rng), random_rotation(rng)):
        mask = (patch_mask((9, 9, 9), tilts, rotation) > 0.5).double()
        once = fourier.filtered(x, mask)
        assert torch.allclose(fourier.filtered(once, mask), once)
    k = torch.randn(3, 100)
    assert torch.equal(tilt_mask(k, tilts, 0.2), tilt_mask(-k, tilts, 0.2))


@pytest.mark.parametrize(
    ("tilts", "useful", "kept"),
    [
        (TiltGeometry((-60.0, 60.0)), 20, 4),
        (TiltGeometry((-45.0, 63.0)), 20, 2),
        (TiltGeometry(SERIES, second=TiltGeometry(SERIES, axis_angle=90.0)), 16, 8),
        (TiltGeometry(SERIES, second=TiltGeometry((-45.0, 45.0), axis_angle=90.0)), 16, 4),
        (TiltGeometry((-60.0, 60.0), conical=True), 16, 8),
        (TiltGeometry((-60.0, 60.0), axis_angle=20.0), 22, 2),
        (TiltGeometry((-60.0, 60.0), axis_angle=90.0), 20, 4),
    ],
    ids=["symmetric", "asymmetric", "dual", "dual unequal", "cone", "in plane", "along x"],
)
def test_useful_and_symmetric_rotations_follow_from_the_mask(tilts, useful, kept):
    observed, same = training_rotations(tilts), symmetry_rotations(tilts)
    assert (len(observed), len(same)) == (useful, kept)
    assert not set(observed) & set(same)
    k = 0.25 * torch.nn.functional.normalize(torch.randn(3, 2000, generator=torch.Generator().manual_seed(9)), dim=0)
    mask = tilt_mask(k, tilts, 1e-6)
    for g in same:
        assert float((tilt_mask(rotated_frequencies(k, g.matrix), tilts, 1e-6) - mask).abs().mean()) < 0.01
    assert all(wedge_share(tilts, g.matrix) >= 0.3 for g in observed)


def test_volume_mask_of_a_thin_volume_keeps_its_old_edge():
    shape = (20, 34, 26)
    k = fourier.frequencies(shape)
    assert torch.equal(volume_mask(shape, TiltGeometry(SERIES)), tilt_mask(k, TiltGeometry(SERIES), 1 / 20))


@pytest.mark.parametrize(
    "wrong",
    [
        {"axis_angle": float("nan")},
        {"x_tilt": 200.0},
        {"thickness": 0.0},
        {"weights": (1.0,)},
        {"weights": (0.0, 0.0)},
        {"weights": (1.0, -1.0)},
    ],
)
def test_impossible_geometries_are_refused(wrong):
    with pytest.raises(InputError, match="expected"):
        TiltGeometry((-60.0, 60.0), **wrong)


def test_weights_of_tilts_of_one_sign_count_at_both_ends_of_their_planes():
    """F(-k) is the conjugate of F(k): whatever a tilt measured, it measured at both."""
    k = torch.randn(3, 4000, generator=torch.Generator().manual_seed(5))
    dim = TiltGeometry(SERIES, weights=tuple(0.2 if a > 20 else 1.0 for a in SERIES))
    mask = tilt_mask(k, dim, 1e-6)
    assert torch.equal(mask, tilt_mask(-k, dim, 1e-6))
    assert 0.1 < float((mask == 0.4).float().mean()) < 0.5
