"""The contrast transfer of a tomogram: against another package, and what dividing by it does to data and noise."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cryovae import fourier
from cryovae.data.prepare import divided, prepare
from cryovae.physics.ctf import MIN_TRANSFER, contrast_transfer, inverse_transfer, tilt_of, tomogram_transfer, visible
from cryovae.physics.wedge import patch_mask, volume_mask
from cryovae.tomogram import Optics, TiltGeometry, Tomogram, Transfer

SHAPE, VOXEL = (40, 56, 48), 8.0
OPTICS = Optics((40000.0,), b_factor=20.0)


def _plane(count, nyquist=0.5):
    """Frequencies (3, count) along x, the plane of zero tilt."""
    k = torch.zeros(3, count, dtype=torch.float64)
    k[2] = torch.linspace(0, nyquist, count, dtype=torch.float64)
    return k


@pytest.mark.parametrize(
    "optics",
    [
        Optics((40000.0,)),
        Optics((25000.0,), voltage=200.0, spherical_aberration=2.0, amplitude_contrast=0.07),
        Optics((30000.0,), phase_shift=90.0),
    ],
)
def test_it_agrees_with_torch_ctf(optics):
    ctf = pytest.importorskip("torch_ctf").calculate_ctf_1d
    count = 257
    theirs = ctf(
        defocus=optics.defocus[0] * 1e-4,
        voltage=optics.voltage,
        spherical_aberration=optics.spherical_aberration,
        amplitude_contrast=optics.amplitude_contrast,
        phase_shift=optics.phase_shift,
        pixel_size=VOXEL,
        n_samples=count,
        oversampling_factor=1,
    ).double()
    ours = tomogram_transfer(_plane(count), optics, VOXEL)
    free = ours.abs() > MIN_TRANSFER + 1e-6
    # Theirs has no lower limit at long waves.
    assert torch.allclose(ours[free], theirs.flatten()[free], atol=2e-3)
    assert int(free.sum()) > count // 2


def test_each_plane_has_the_defocus_of_its_tilt():
    optics = Optics((20000.0, 30000.0, 45000.0), angles=(-40.0, 0.0, 40.0))
    for angle, defocus in zip(optics.angles, optics.defocus, strict=True):
        radius = torch.linspace(0.02, 0.45, 50)
        t = np.radians(angle)
        k = torch.stack((radius * float(np.sin(t)), torch.zeros(50), radius * float(np.cos(t))))
        assert torch.allclose(tilt_of(k), torch.full((50,), angle), atol=1e-3)
        alone = tomogram_transfer(k, Optics((defocus,)), VOXEL)
        assert torch.allclose(tomogram_transfer(k, optics, VOXEL), alone, atol=1e-4)


def test_flipped_phases_leave_no_negative_transfer():
    k = fourier.frequencies(SHAPE)
    plain = tomogram_transfer(k, OPTICS, VOXEL)
    assert float(plain.min()) < -0.5
    assert torch.equal(tomogram_transfer(k, replace(OPTICS, flipped=True), VOXEL), plain.abs())


def test_what_is_divided_out_is_undone_where_something_was_transferred():
    k, transfer = fourier.frequencies(SHAPE), Transfer(OPTICS, VOXEL)
    c, seen, inverse = tomogram_transfer(k, OPTICS, VOXEL), visible(k, transfer), inverse_transfer(k, transfer)
    assert torch.allclose((c * inverse)[seen == 1], torch.ones(()), atol=1e-5)
    assert float(inverse[seen == 0].abs().max()) == 0
    assert float(inverse.abs().max()) <= 1 / MIN_TRANSFER + 1e-4
    assert 0.6 < float(seen.mean()) < 0.99


def test_the_zeroes_are_no_part_of_the_mask(tilts):
    modulated = replace(tilts, transfer=Transfer(OPTICS, VOXEL))
    k = fourier.frequencies(SHAPE)
    plain, ours = volume_mask(SHAPE, tilts), volume_mask(SHAPE, modulated)
    assert torch.equal(ours, plain * visible(k, modulated.transfer))
    patch = patch_mask((24, 24, 24), modulated)
    assert torch.all(patch <= patch_mask((24, 24, 24), tilts) + 1e-6)
    assert float(patch.sum()) < 0.95 * float(patch_mask((24, 24, 24), tilts).sum())


def test_the_likelihood_is_that_of_the_modulated_density(tilts):
    """Divided data at their own variance say of x what the data say of C x."""
    rng = torch.Generator().manual_seed(0)
    k, modulated = fourier.frequencies(SHAPE), replace(tilts, transfer=Transfer(OPTICS, VOXEL))
    c = tomogram_transfer(k, OPTICS, VOXEL)
    x, y = torch.randn(SHAPE, generator=rng), torch.randn(SHAPE, generator=rng)
    weight = visible(k, modulated.transfer) * fourier.multiplicity(SHAPE)
    weight[0, 0, 0] = 0.0
    direct = (weight * (c * fourier.transform(x) - fourier.transform(y)).abs().square()).sum()
    ours = (weight * c.square() * (fourier.transform(x) - fourier.transform(divided(y, modulated))).abs().square()).sum()
    assert float(ours) == pytest.approx(float(direct), rel=1e-4)


def test_the_noise_of_divided_data_is_known_bin_by_bin():
    rng = np.random.default_rng(3)
    halves = tuple(rng.normal(5, 2, SHAPE).astype(np.float32) for _ in range(2))
    tilts = TiltGeometry.from_range(-90, 90)
    tomogram = Tomogram("n", (halves[0] + halves[1]) / 2, VOXEL, tilts, halves, optics=OPTICS)
    prepared = prepare(tomogram, 16)
    assert prepared.tilts.transfer == Transfer(OPTICS, VOXEL)
    assert float(prepared.density.std()) == pytest.approx(1.0, abs=1e-3)
    k = fourier.frequencies(SHAPE)
    inside = (volume_mask(SHAPE, prepared.tilts) == 1) & (fourier.radius(SHAPE) > 0.05)
    power = fourier.transform(prepared.density).abs().square()
    ratio = (power / prepared.noise(k))[inside]
    assert float(ratio.mean()) == pytest.approx(1.0, abs=0.05)
    strong = inside & (prepared.noise(k) > 2 * prepared.noise(k)[inside].median())
    assert float((power / prepared.noise(k))[strong].mean()) == pytest.approx(1.0, abs=0.15)
    mean = (prepared.ready(halves[0]) + prepared.ready(halves[1])) / 2
    assert torch.allclose(mean, prepared.density, atol=1e-3)


@pytest.mark.parametrize("cs", [0.0, 2.7])
def test_the_transfer_of_an_image_is_that_of_its_plane(cs):
    """At a voxel size at which the aberration turns the phase by more than a radian."""
    k = _plane(200)
    volume = tomogram_transfer(k, Optics((25000.0,), spherical_aberration=cs), 2.0)
    image = contrast_transfer(k[2], 2.0, 2.5, 300.0, cs, Optics((25000.0,)).amplitude_contrast)
    free = volume.abs() > MIN_TRANSFER + 1e-6
    assert int(free.sum()) > 100
    assert torch.allclose(image[free], -volume[free], atol=1e-3)


def test_the_envelope_falls_with_a_quarter_of_the_b_factor():
    k = _plane(100)
    plain, damped = (tomogram_transfer(k, Optics((30000.0,), b_factor=b), VOXEL) for b in (0.0, 300.0))
    free = (damped.abs() > MIN_TRANSFER + 1e-6) & (plain.abs() > 0.3)
    expected = torch.exp(-300 / 4 * (k[2] / VOXEL).square())
    assert float(expected[free].min()) < 0.8
    assert torch.allclose((damped / plain)[free], expected[free], atol=1e-4)


def test_tilts_may_come_in_any_order():
    k = fourier.frequencies((10, 8, 12))
    one = Optics((20000.0, 30000.0, 45000.0), angles=(-40.0, 0.0, 40.0))
    two = Optics((30000.0, 45000.0, 20000.0), angles=(0.0, 40.0, -40.0))
    assert torch.equal(tomogram_transfer(k, one, VOXEL), tomogram_transfer(k, two, VOXEL))
