import numpy as np
import pytest
import torch

from cryovae import fourier
from cryovae.evaluation.fsc import CONES, angle_to_beam, cone_scores, correlation, regions, resolution_at, score

SHAPE = (24, 30, 27)


@pytest.fixture(scope="module")
def pair():
    """Two volumes that share a signal which fades with frequency."""
    generator = torch.Generator().manual_seed(5)
    signal, one, two = torch.randn(3, *SHAPE, generator=generator)
    signal = 4 * fourier.filtered(signal, torch.exp(-(6 * fourier.radius(SHAPE) ** 2)))
    return signal + one, signal + two


def by_full_fft(a, b, weight):
    """The definition, with numpy's full transform, for shells as wide as a bin of the shortest axis."""
    x, y = np.fft.fftn(a), np.fft.fftn(b)
    k = np.meshgrid(*(np.fft.fftfreq(n) for n in a.shape), indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in k))
    width = 1 / min(a.shape)
    shell = np.rint(radius.astype(np.float32) / np.float32(width)).astype(int)
    curve = []
    for number in range(1, int(0.5 / width) + 1):
        inside = (shell == number) * weight(k)
        cross = (inside * (x * y.conj()).real).sum()
        curve.append(cross / np.sqrt((inside * abs(x) ** 2).sum() * (inside * abs(y) ** 2).sum()))
    return np.array(curve)


def test_the_shells_are_those_of_a_full_transform(pair):
    half = fourier.multiplicity(SHAPE).expand(24, 30, 14)
    curve = correlation(*pair, half)
    assert curve.shells == pytest.approx(by_full_fft(pair[0].numpy(), pair[1].numpy(), lambda k: 1.0), abs=1e-5)
    assert curve.shells[0] > 0.8 > 0.5 > curve.shells[-1]


def test_wedge_and_measured_part_are_those_of_a_full_transform(pair, tilts):
    """The wedge written anew: bins more than half a bin away from the planes at the ends of the range."""
    scores = score(*pair, tilts)
    slope = np.tan(np.radians(60))

    def measured(k):
        return (abs(k[2]) * slope - abs(k[0])) / np.hypot(1, slope) > 0.5 / min(SHAPE[0], SHAPE[2])

    def wedge(k):
        return (abs(k[0]) - abs(k[2]) * slope) / np.hypot(1, slope) > 0.5 / min(SHAPE[0], SHAPE[2])

    plain = [part.numpy() for part in pair]
    with np.errstate(invalid="ignore"):
        for curve, weight in ((scores.measured, measured), (scores.wedge, wedge)):
            assert curve.shells[2:] == pytest.approx(by_full_fft(*plain, weight)[2:], abs=1e-4, nan_ok=True)


def test_agreement_with_an_independent_package():
    """teamtomo shares a bin between two shells, we give it to the nearest: alike to the scatter of a shell."""
    package = pytest.importorskip("torch_fourier_shell_correlation", reason="the dev extra has it")
    shape = (64, 80, 72)
    signal, *noise = torch.randn(3, *shape, generator=torch.Generator().manual_seed(2))
    signal = 4 * fourier.filtered(signal, torch.exp(-(6 * fourier.radius(shape) ** 2)))
    first, second = (signal + part for part in noise)
    theirs = package.fourier_shell_correlation(first, second).numpy()[1:]
    ours = correlation(first, second, fourier.multiplicity(shape).expand(64, 80, 37))
    assert ours.frequency == pytest.approx(np.fft.rfftfreq(min(shape))[1:])
    assert ours.shells[5:-1] == pytest.approx(theirs[5:-1], abs=0.03)
    assert np.abs(ours.shells - theirs)[1:].mean() < 0.01


def test_a_signal_in_one_cone_correlates_in_that_cone_alone(tilts):
    generator = torch.Generator().manual_seed(1)
    signal, noise, other = torch.randn(3, *SHAPE, generator=generator)
    angle = angle_to_beam(SHAPE)
    for number, (low, high) in enumerate(CONES):
        shared = 20 * fourier.filtered(signal, ((angle >= low) & (angle < high + 1e-3)).float())
        bands = [cone.all_bins.band for cone in cone_scores(shared + noise, shared + other, tilts)]
        assert bands[number] > 0.95
        assert max(bands[:number] + bands[number + 1 :]) < 0.4


def test_cones_and_parts_cover_every_bin_once(tilts):
    angle = angle_to_beam(SHAPE)
    assert float(angle.min()) >= 0
    assert float(angle.max()) <= 90
    inside = sum(((angle >= low) & (angle < (high if high < 90 else 91))).int() for low, high in CONES)
    assert (inside == 1).all()
    # Within 30 degrees of the beam a range of +-60 degrees measures nothing.
    wedge, measured = regions(SHAPE, tilts)
    assert float((measured * (angle < 29)).sum()) == 0
    assert float((wedge * (angle > 61)).sum()) > 0


def test_crossings_are_between_shells():
    frequency = np.array([0.1, 0.2, 0.3, 0.4])
    assert resolution_at(frequency, np.array([0.9, 0.7, 0.3, 0.1]), 8.0, 0.5) == pytest.approx(8 / 0.25)
    assert resolution_at(frequency, np.array([np.nan, 0.7, np.nan, 0.3]), 8.0, 0.5) == pytest.approx(8 / 0.3)
    assert resolution_at(frequency, np.full(4, 0.6), 8.0, 0.5) == 16
    assert np.isnan(resolution_at(frequency, np.full(4, np.nan), 8.0, 0.5))
    assert np.isnan(resolution_at(frequency, np.array([0.4, 0.9, 0.9, 0.9]), 8.0, 0.5))
    coarse = np.array([0.01, 0.03, 0.1, 0.2])
    # Shells next to zero have few bins: a low one among them is no resolution.
    assert resolution_at(coarse, np.array([0.1, 0.9, 0.7, 0.3]), 8.0, 0.5) == pytest.approx(8 / 0.15)


def test_a_part_without_bins_has_no_correlation(pair):
    curve = correlation(*pair, torch.zeros(24, 30, 14))
    assert np.isnan(curve.band)
    assert np.isnan(curve.shells).all()
