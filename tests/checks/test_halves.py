"""Halves that do not belong together are refused, those on two scales are brought to one, and true ones are left alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import cryovae
from cryovae.checks.halves import check_halves, to_one_scale
from cryovae.findings import Severity
from cryovae.io.files import write_volume
from cryovae.io.load import load_tomogram
from cryovae.tomogram import TiltGeometry, Tomogram
from tests.helpers.cli import RANGE, TINY
from tests.helpers.cli import cryovae as command

SHAPE = (32, 48, 40)


@pytest.fixture(scope="module")
def true():
    return cryovae.simulate(shape=SHAPE, snr=0.3, seed=1)[0]


@pytest.fixture(scope="module")
def other():
    return cryovae.simulate(shape=SHAPE, snr=0.3, seed=2)[0]


def _with(tomogram, second, first=None):
    first = tomogram.halves[0] if first is None else first
    return replace(tomogram, halves=(first, second), density=(first + second) / 2)


def _words(tomogram):
    findings = check_halves(tomogram)
    assert all(one.severity is Severity.REFUSAL for one in findings)
    return " ".join(one.words for one in findings)


def test_true_halves_are_left_alone_bit_for_bit(true):
    assert check_halves(true) == []
    assert to_one_scale(true) is true
    noisier = _with(true, true.halves[1] + np.random.default_rng(0).normal(size=SHAPE).astype(np.float32) * true.halves[1].std())
    assert check_halves(noisier) == []
    assert to_one_scale(noisier) is noisier


def test_true_halves_are_left_alone_at_a_hundredth_of_signal():
    weak = cryovae.simulate(shape=(48, 64, 56), snr=0.01, seed=3)[0]
    assert check_halves(weak) == []
    assert to_one_scale(weak) is weak


@pytest.mark.parametrize("side", [8, 16, 18, 24])
def test_small_crops_of_true_halves_are_left_alone(true, side):
    first, second = (half[4 : 4 + side, 8 : 8 + side, 2 : 4 + side].copy() for half in true.halves)
    crop = _with(true, second, first)
    assert check_halves(crop) == []
    assert to_one_scale(crop) is crop


def test_a_half_of_another_tomogram_is_refused(true, other):
    assert "do not correlate" in _words(_with(true, other.halves[1]))


def test_an_inverted_half_is_refused(true):
    assert "correlate negatively" in _words(_with(true, -true.halves[1]))
    assert "correlate negatively" in _words(_with(true, 3 - 2 * true.halves[1]))


@pytest.mark.parametrize("shift", [(0, 3, 0), (-2, 0, 4), (0, 0, -1), (5, 5, 5)])
def test_a_shifted_half_is_refused_with_the_shift_that_mends_it(true, shift):
    moved = np.roll(true.halves[1], shift, (0, 1, 2))
    assert "shifted by {}, {}, {} voxels".format(*(-s for s in shift)) in _words(_with(true, moved))


@pytest.mark.parametrize(("factor", "offset"), [(3.0, 0.0), (0.2, 0.0), (1.0, 40.0), (3.0, -7.0)])
def test_halves_on_two_scales_are_brought_to_one_with_a_warning(true, factor, offset):
    mended = to_one_scale(_with(true, factor * true.halves[1] + np.float32(offset)))
    assert [one.severity for one in mended.findings] == [Severity.WARNING]
    assert check_halves(mended) == []
    assert to_one_scale(mended).findings == mended.findings
    np.testing.assert_allclose(mended.halves[0], true.halves[0])
    np.testing.assert_allclose(mended.halves[1], true.halves[1], atol=0.05 * true.halves[1].std())
    np.testing.assert_allclose(mended.density, true.density, atol=0.05 * true.density.std())


def test_halves_that_stay_on_the_disk_are_scaled_when_they_are_read(true, tmp_path):
    files = [tmp_path / f"ts_{name}.mrc" for name in ("EVN", "ODD")]
    for file, half in zip(files, (true.halves[0], 3 * true.halves[1]), strict=True):
        write_volume(file, half, None, 10.0, "")
    mapped = load_tomogram(None, (files[0], files[1]), TiltGeometry.from_range(-60, 60), mapped=True)
    mended = to_one_scale(mapped)
    box = (slice(3, 9), slice(0, 20), slice(7, 30))
    np.testing.assert_allclose(mended.halves[1][box], true.halves[1][box], atol=0.05 * true.halves[1].std())
    np.testing.assert_allclose(mended.density[box], true.density[box], atol=0.05 * true.density.std())


def test_a_part_of_a_tomogram_keeps_the_scale_of_all(true):
    part = replace(_with(true, 3 * true.halves[1]), grey=(0.0, 1.0))
    assert to_one_scale(part) is part


def test_a_single_volume_and_constant_halves_are_no_trouble():
    zero = np.zeros((20, 24, 22), np.float32)
    for halves in (None, (zero, zero + 1)):
        tomogram = Tomogram("flat", zero, 10.0, TiltGeometry.from_range(-60, 60), halves)
        assert to_one_scale(tomogram) is tomogram
        assert check_halves(tomogram) == []


def test_restore_refuses_halves_of_two_tomograms(true, other, tmp_path):
    files = [tmp_path / f"ts_{name}.mrc" for name in ("EVN", "ODD")]
    for file, half in zip(files, (true.halves[0], other.halves[1]), strict=True):
        write_volume(file, half, None, 10.0, "")
    done = command("restore", "--half1", files[0], "--half2", files[1], "-o", tmp_path / "out", *RANGE, *TINY)
    assert done.returncode == 2
    assert "do not correlate" in done.stderr


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_mirrored_half_is_refused_and_a_true_weak_one_is_not(axis):
    """Along z it correlates near the plane of the mirror, so neither "none" nor a shift tells."""
    tomogram = cryovae.simulate(shape=(40, 64, 56), snr=0.3, seed=5)[0]
    words = _words(_with(tomogram, np.flip(tomogram.halves[1], axis).copy()))
    assert "mirrored along" in words or "do not correlate" in words or "shifted" in words
    weak = cryovae.simulate(shape=(40, 64, 56), snr=0.03, seed=6)[0]
    assert check_halves(weak) == []
