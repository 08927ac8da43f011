"""Projection: mass, adjoint, linearity, an independent package, the wedge it leaves, and a real tilt series."""

import mrcfile
import numpy as np
import pytest
import torch

from cryovae import fourier
from cryovae.errors import InputError
from cryovae.io.tilts import read_tilts
from cryovae.physics.projection import angular_steps, back_project, footprint, project, ramp, weighted_back_projection
from cryovae.physics.wedge import volume_mask
from cryovae.tomogram import TiltGeometry

ANGLES = (-63.0, -45.0, -17.5, 0.0, 30.0, 45.0, 61.0)


def blobs(shape, places, dtype=torch.float32):
    """Gaussian blobs (z, y, x, sigma, height) about the centre of a (z, y, x) grid."""
    axes = torch.meshgrid(*[torch.arange(n, dtype=dtype) - (n - 1) / 2 for n in shape], indexing="ij")
    made = torch.zeros(shape, dtype=dtype)
    for *centre, sigma, height in places:
        square = sum((axis - c) ** 2 for axis, c in zip(axes, centre, strict=True))
        made += height * torch.exp(-square / (2 * sigma**2))
    return made


@pytest.fixture(scope="module")
def prepared():
    return blobs((31, 18, 41), [(4, -3, -6, 3.0, 1.0), (-6, 4, 9, 2.0, 0.7), (0, 0, 0, 2.5, -0.4)])


def test_back_projection_is_the_adjoint_of_projection():
    shape, pixels = (21, 9, 33), 40
    generator = torch.Generator().manual_seed(0)
    density = torch.randn(shape, generator=generator, dtype=torch.float64)
    images = torch.randn(len(ANGLES), shape[1], pixels, generator=generator, dtype=torch.float64)
    forward = float((project(density, ANGLES, pixels) * images).sum())
    adjoint = float((density * back_project(images, ANGLES, shape)).sum())
    assert forward == pytest.approx(adjoint, rel=1e-10)


def test_projection_is_linear_and_keeps_mass(prepared):
    other = prepared.flip(0) * 2 - 0.1 * prepared.flip(2)
    distributed_command = project(1.5 * prepared - 0.25 * other, ANGLES, 70)
    assert torch.allclose(distributed_command, 1.5 * project(prepared, ANGLES, 70) - 0.25 * project(other, ANGLES, 70), atol=1e-4)
    assert torch.allclose(distributed_command.sum((1, 2)), (1.5 * prepared - 0.25 * other).sum().expand(len(ANGLES)), rtol=1e-4)


def test_constant_slab_projects_to_its_thickness_without_ripple():
    images = project(torch.ones(24, 2, 400, dtype=torch.float64), (0.0, 30.0, 45.0, -60.0), 101)
    for image, angle in zip(images, (0, 30, 45, 60), strict=True):
        assert torch.allclose(image, torch.full_like(image, 24 / np.cos(np.radians(angle))), rtol=1e-9)


def test_projection_moves_a_point_as_the_angle_says():
    for angle in ANGLES:
        image = project(blobs((33, 5, 33), [(8, 0, 3, 1.5, 1.0)]), [angle], 45)[0].sum(0)
        t = np.radians(angle)
        centre = float((image * (torch.arange(45) - 22)).sum() / image.sum())
        assert centre == pytest.approx(3 * np.cos(t) + 8 * np.sin(t), abs=1e-2)


def test_projection_agrees_with_torch_fourier_slice():
    """Its centre is at n // 2, in even cubes: an odd one with an empty plane before it on each axis suits both."""
    slices = pytest.importorskip("torch_fourier_slice")
    size = 49
    cube = blobs((size,) * 3, [(4, -3, -6, 3.0, 1.0), (-6, 4, 9, 2.5, 0.7), (5, 7, 2, 3.5, -0.4)])
    orientations = []
    for angle in np.radians(ANGLES):
        # Columns are where the beam frame's z, y, x lie in the specimen: u runs along (z, x) = (sin t, cos t).
        orientations.append([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    even = torch.nn.functional.pad(cube, (1, 0, 1, 0, 1, 0))
    theirs = slices.project_3d_to_2d(
        even, torch.tensor(np.array(orientations), dtype=torch.float32), pad_factor=3.0, zyx_matrices=True
    )[:, 1:, 1:]
    ours = project(cube, ANGLES)
    sharpened = []
    k = fourier.frequencies((1, 1, size))[2].flatten()
    for image, angle in zip(ours, ANGLES, strict=True):
        sharpened.append(fourier.filtered(image[:, None, None, :], 1 / footprint(k, angle))[:, 0, 0])
    difference = torch.stack(sharpened) - theirs
    assert float(difference.norm() / theirs.norm()) < 0.01
    assert float((ours - theirs.flip(2)).norm() / theirs.norm()) > 0.3


@pytest.mark.parametrize("angles", [np.arange(-90, 90, 2.0), np.arange(-90, 91, 2.0), np.arange(0, 180, 2.0) - 90 + 0.3])
def test_whole_half_circle_gives_the_density_back(prepared, angles):
    again = weighted_back_projection(project(prepared, angles, 60), angles, prepared.shape)
    assert float((again * prepared).sum() / prepared.square().sum()) == pytest.approx(1.0, abs=0.03)
    assert float((again - prepared).norm() / prepared.norm()) < 0.05
    assert float(again.sum() / prepared.sum()) == pytest.approx(1.0, abs=0.02)


def test_uneven_tilts_are_weighted_by_the_angle_they_stand_for(prepared):
    even = np.arange(-90, 90, 2.0)
    uneven = np.concatenate([np.arange(-90, 0, 1.0), np.arange(0, 90, 3.0)])
    assert angular_steps(uneven).sum() == pytest.approx(np.pi)
    assert angular_steps((-60.0, -50.0, 0.0, 3.0)) == pytest.approx(np.radians([10, 30, 26.5, 3]))
    both = [weighted_back_projection(project(prepared, a, 60), a, prepared.shape) for a in (even, uneven)]
    assert float((both[0] - both[1]).norm() / prepared.norm()) < 0.06


def test_ramp_keeps_the_mean_and_falls_to_zero():
    values = ramp(256, 0.4, 0.5)
    k = fourier.frequencies((1, 1, 256))[2].flatten()
    assert 0 < float(values[0]) < 2e-3
    assert torch.allclose(values[20:50].float(), k[20:50], rtol=1e-2)
    assert float(values[k >= 0.4].abs().max()) < 1e-9


def test_reconstruction_holds_the_wedge_of_an_asymmetric_range():
    """White matter, so that every bin counts; a margin keeps projections on the detector."""
    shape = (40, 12, 52)
    inner = torch.randn((24, 12, 36), generator=torch.Generator().manual_seed(1))
    density = torch.nn.functional.pad(inner, (8, 8, 0, 0, 8, 8))
    angles = np.arange(-45, 64, 1.5)
    seen = weighted_back_projection(project(density, angles, 72), angles, shape)
    power = fourier.transform(seen).abs().square() * fourier.multiplicity(shape)
    k = fourier.radius(shape)
    band = (k > 0.04) & (k < 0.35)

    def outside(low, high):
        mask = volume_mask(shape, TiltGeometry.from_range(low, high), 2.0)
        return float((power * (mask == 0) * band).sum() / (power * band).sum())

    assert outside(-45, 63) < 0.06
    assert outside(-63, 45) > 3 * outside(-45, 63)


def test_what_does_not_fit_is_refused(prepared):
    images = project(prepared, ANGLES)
    with pytest.raises(InputError, match="expected"):
        back_project(images, ANGLES[:-1], prepared.shape)
    with pytest.raises(InputError, match="expected"):
        back_project(images, ANGLES, (31, 19, 41))
    with pytest.raises(InputError, match="expected a cutoff"):
        weighted_back_projection(images, ANGLES, prepared.shape, cutoff=0.7)


def test_real_tilt_series_gives_its_reference_reconstruction(shared):
    """Hann-ramp back-projection by another program, of rows 40 to 248; the signs of the angles are those of the file."""
    images = torch.from_numpy(mrcfile.read(shared / "real/etspy_HAADF_aligned_tiltaxisY.mrc").astype(np.float32))[:, 40:248]
    angles = np.array(read_tilts(shared / "real/etspy_HAADF_aligned_tiltaxisY.tlt").angles)
    theirs = mrcfile.read(shared / "real/HAADF_fbp_pm76_full.mrc").astype(np.float32)
    ours = weighted_back_projection(images, angles, theirs.shape, edge=1.0).numpy()
    mirrored = weighted_back_projection(images, -angles, theirs.shape, edge=1.0).numpy()
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.99
    assert np.corrcoef(mirrored.ravel(), theirs.ravel())[0, 1] < 0.98


def test_at_high_frequency_the_blur_of_one_projection_is_left():
    """Projections are divided by the transform of a voxel's area once, and blurred by it twice."""
    density = torch.randn(41, 3, 41, generator=torch.Generator().manual_seed(0))
    angles = [float(a) for a in range(-90, 90, 3)]
    images = project(density, angles, 61)
    rebuilt = weighted_back_projection(images, angles, density.shape)
    inner = (slice(8, 33), slice(None), slice(8, 33))
    x, y = (fourier.transform(d[inner]) for d in (density, rebuilt))
    k = fourier.frequencies(density[inner].shape)
    radius = (k[0].square() + k[2].square()).sqrt()
    band = (radius > 0.25) & (radius < 0.33)
    ratio = float((x * y.conj()).real[band].sum() / x.abs().square()[band].sum())
    blur = torch.stack([footprint(torch.tensor(0.29), angle) for angle in angles]).mean()
    assert ratio == pytest.approx(float(blur), rel=0.06)
