"""A tilt series and its tomograms: linear in the specimen; noise, wedge, CTF and damage are those asked for."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cryovae import fourier
from cryovae.errors import InputError
from cryovae.physics.wedge import volume_mask
from cryovae.simulation.exposure import contrast_of, count, damage, electrons, exposures
from cryovae.simulation.scene import SceneConfig, build_scene
from cryovae.simulation.tilt_series import (
    AcquisitionConfig,
    image_scene,
    margin_of,
    noise_free,
    tilt_angles,
    transfers,
)
from cryovae.tomogram import TiltGeometry

SHAPE = (40, 56, 48)
ANGLES = tilt_angles(-45, 63, 3)


@pytest.fixture(scope="module")
def scene():
    config = SceneConfig(shape=SHAPE, vesicles=1, sheets=0, filaments=1, beads=0)
    return build_scene(config, [], margin_of(SHAPE, ANGLES, SHAPE[0]), np.random.default_rng(2))


@pytest.fixture(scope="module")
def series(scene):
    return image_scene(scene, AcquisitionConfig(angles=ANGLES, snr=0.3, seed=4))


def correlation(a, b):
    return float(torch.corrcoef(torch.stack((a.flatten(), b.flatten())).double())[0, 1])


def test_signal_to_noise_is_as_asked(series):
    noise = series.full - series.signal
    assert float(series.signal.var() / noise.var()) == pytest.approx(0.3, rel=0.12)
    assert series.snr == pytest.approx(0.3, rel=0.12)
    assert float(series.full.std()) == pytest.approx(1, abs=1e-4)
    assert torch.allclose(series.full, (series.half1 + series.half2) / 2, atol=1e-4)


def test_noise_of_the_halves_is_independent(series):
    first, second = series.half1 - series.signal, series.half2 - series.signal
    assert abs(correlation(first, second)) < 0.03
    assert float(first.var() / second.var()) == pytest.approx(1, abs=0.05)
    assert abs(correlation(first, series.signal)) < 0.03


def test_measured_bins_hold_the_truth_on_its_scale(series):
    """Where it was measured, the noise-free tomogram is the truth, CTF and damage in both; in the wedge there is nothing."""
    mask = volume_mask(SHAPE, TiltGeometry(ANGLES), 2.0)
    k = fourier.radius(SHAPE)
    seen, truth = fourier.transform(series.signal), fourier.transform(series.truth)
    band = (k > 0.05) & (k < 0.2)
    inside, outside = band & (mask > 0.99), band & (mask < 0.01)
    cross = (seen * truth.conj()).real[inside].sum()
    power = truth.abs()[inside].square().sum()
    assert float(cross / power) == pytest.approx(1, abs=0.06)
    assert float(cross / (power.sqrt() * seen.abs()[inside].norm())) > 0.95
    assert float(seen.abs()[outside].square().mean() / seen.abs()[inside].square().mean()) < 0.1


def test_wedge_has_the_sign_of_the_tilts(series):
    k = fourier.radius(SHAPE)
    power = fourier.transform(series.full).abs().square() * fourier.multiplicity(SHAPE)
    band = (k > 0.05) & (k < 0.35)
    shares = []
    for low, high in ((-45, 63), (-63, 45)):
        outside = volume_mask(SHAPE, TiltGeometry.from_range(low, high), 2.0) == 0
        shares.append(float((power * outside * band).sum() / (power * band).sum()))
    assert shares[0] < 0.06
    assert shares[1] > 3 * shares[0]


def test_protein_is_dark_and_the_density_is_plain(scene, series):
    body = torch.from_numpy(scene.inside > 0.8)
    assert float(series.density[body].mean()) < 0
    assert float(series.truth[body].mean()) < float(series.truth[~body].mean())
    assert float(series.density.max()) < 0.2 * float(-series.density.min())
    assert correlation(series.density, torch.from_numpy(scene.inside.copy())) == pytest.approx(-1, abs=1e-5)


def test_images_are_linear_in_the_specimen():
    config = AcquisitionConfig(angles=ANGLES)
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn((16, 20, 28), generator=generator) for _ in range(2))
    defocus, errors = np.linspace(2, 3, len(ANGLES)), np.full((len(ANGLES), 3), (0.5, -1.2, 0.3))
    both = noise_free(2 * a - b, config, defocus, errors)
    combined = 2 * noise_free(a, config, defocus, errors) - noise_free(b, config, defocus, errors)
    assert float((both - combined).norm() / both.norm()) < 1e-4


def test_misalignment_moves_the_images():
    config = AcquisitionConfig(angles=(-10.0, 0.0, 10.0), defocus=0.0)
    blob = torch.zeros(17, 33, 33)
    blob[7:10, 15:18, 15:18] = 1
    errors = np.zeros((3, 3))
    errors[1] = (2.0, -3.0, 0.0)
    image = -noise_free(blob, config, np.zeros(3), errors)[1]
    place = torch.arange(33.0)
    assert float((image.sum(1) * place).sum() / image.sum()) == pytest.approx(18, abs=0.05)
    assert float((image.sum(0) * place).sum() / image.sum()) == pytest.approx(13, abs=0.05)


def test_electrons_are_counted():
    flat = torch.full((2, 200, 200), -0.2)
    counted = np.array([20.0, 500.0])
    for noise in ("poisson", "gaussian"):
        images = count(flat, counted, noise, torch.Generator().manual_seed(0))
        assert images.mean((1, 2)).numpy() == pytest.approx([-0.2, -0.2], abs=0.01)
        share = 0.8 if noise == "poisson" else 1.0
        assert images.var((1, 2)).numpy() * counted == pytest.approx([share, share], rel=0.05)
        steps = (images[0] + 1) * 20
        assert bool((steps - steps.round()).abs().max() < 1e-3) == (noise == "poisson")


def test_dose_is_spread_over_the_tilts_and_damages():
    received = exposures((-6.0, -3.0, 0.0, 3.0, 6.0), 100.0)
    assert received[2] == 10
    assert sorted(received) == [10, 30, 50, 70, 90]
    assert max(received[[1, 3]]) < min(received[[0, 4]])
    fine, coarse = damage(torch.tensor(0.4), 60.0, 10.0), damage(torch.tensor(0.05), 60.0, 10.0)
    assert float(fine) < float(coarse) < 1
    # Half the critical dose of Grant and Grigorieff at 1/20 per angstrom, 39 electrons per square angstrom, leaves exp(-1/4).
    assert float(damage(torch.tensor(0.5), 0.5 * (0.245 * 0.05**-1.665 + 2.81), 10.0)) == pytest.approx(np.exp(-0.25), rel=1e-4)
    flat, tilted = electrons((-60.0, 0.0, 60.0), 90.0, 10.0, 1000.0)[[1, 2]]
    assert flat == pytest.approx(30 * 100 * np.exp(-1 / 3))
    assert tilted == pytest.approx(30 * 100 * np.exp(-2 / 3))


def test_more_dose_less_noise_and_no_ctf_no_rings(scene):
    low, high = (image_scene(scene, AcquisitionConfig(angles=ANGLES, dose=dose)).snr for dose in (30.0, 120.0))
    assert 2.5 * low < high < 4.5 * low
    k = torch.linspace(0, 0.5, 100)
    assert torch.stack(transfers(k, AcquisitionConfig(angles=ANGLES, defocus=0.0), np.zeros(len(ANGLES)))).min() > 0
    assert torch.stack(transfers(k, AcquisitionConfig(angles=ANGLES), np.full(len(ANGLES), 2.5))).min() < -0.1
    assert contrast_of(20.0) == pytest.approx(2 * contrast_of(10.0))


def test_poisson_and_halves_by_tilts(scene):
    config = AcquisitionConfig(angles=ANGLES, snr=0.5, noise="poisson", halves="tilts")
    made = image_scene(scene, config)
    assert made.snr == pytest.approx(0.5, rel=0.15)
    assert correlation(made.full, (made.half1 + made.half2) / 2) > 0.9
    assert 0.05 < correlation(made.half1, made.half2) < 0.9


def test_seeds_and_misalignment(scene, series):
    config = AcquisitionConfig(angles=ANGLES, snr=0.3, seed=4)
    assert torch.equal(image_scene(scene, config).half2, series.half2)
    assert not torch.equal(image_scene(scene, replace(config, seed=5)).half2, series.half2)
    blurred = image_scene(scene, replace(config, misalign=(1.5, 1.0)))
    assert correlation(blurred.signal, blurred.truth) < correlation(series.signal, series.truth) - 0.02


@pytest.mark.parametrize(
    "bad",
    [
        {"snr": 0.0}, {"dose": -1.0}, {"noise": "pink"}, {"halves": "thirds"}, {"misalign": (-1.0, 0.0)}, {"cutoff": 0.7},
        {"angles": (0.0, 89.0)}, {"angles": (0.0, 3.0, 6.0), "halves": "tilts"},
    ],
)  # fmt: skip
def test_impossible_acquisitions_are_refused(bad):
    with pytest.raises(InputError, match="expected"):
        AcquisitionConfig(**bad)


def test_tilts_reach_both_ends():
    assert tilt_angles(-60, 60, 3) == tuple(float(a) for a in range(-60, 61, 3))
    angles = tilt_angles(-50, 60, 3)
    assert (angles[0], angles[-1], len(angles)) == (-50, 60, 38)
    for bad in ((60, -60, 3), (-60, 60, 0), (-60, 60, 400)):
        with pytest.raises(InputError, match="expected"):
            tilt_angles(*bad)


def test_an_empty_specimen_has_noise_alone():
    config = SceneConfig(shape=(24, 32, 28), crowding=0.0, sheets=0, vesicles=0, filaments=0, beads=0)
    empty = build_scene(config, [], 4, np.random.default_rng(0))
    made = image_scene(empty, AcquisitionConfig(angles=ANGLES))
    assert float(made.full.std()) == pytest.approx(1, abs=1e-4)
    assert float(made.truth.abs().max()) < 1e-6
    with pytest.raises(InputError, match="empty"):
        image_scene(empty, AcquisitionConfig(angles=ANGLES, snr=0.3))
