"""Axes and ranges found in power spectra: of made volumes, and of every real tomogram in the shared data."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch

from cryovae import fourier
from cryovae.evaluation.power_by_direction import angles_of, axis_of, tilt_of
from cryovae.evaluation.wedge_comparison import disagreements
from cryovae.evaluation.wedge_detection import detect_wedge
from cryovae.io.files import read_volume
from cryovae.physics.directions import tilt_mask
from cryovae.tomogram import TiltGeometry

SHAPE = (56, 84, 72)
PLAIN = TiltGeometry((-50.0, 62.0))


def _made(tilts, shape=SHAPE, seed=0):
    """Coloured noise, measured as a geometry says, with a little white noise everywhere; a faint one on the faces."""
    generator = torch.Generator().manual_seed(seed)
    white = torch.randn(shape, generator=generator)
    mask = tilt_mask(fourier.frequencies(shape), tilts, 1 / min(shape))
    seen = fourier.filtered(white, mask / (0.1 + fourier.radius(shape)))
    return (seen + 0.1 * torch.randn(shape, generator=generator)).numpy()


@lru_cache
def _seen(tilts):
    """What is seen of such a volume: looking takes a second or two, and several tests ask."""
    return detect_wedge(_made(tilts))


def _distance(seen, tilts):
    """Degrees between the axis seen and that of a geometry, and the range seen about the latter."""
    axis = axis_of(tilts.axis_angle, tilts.x_tilt)
    near = min(seen.axes, key=lambda a: -abs(a.vector @ axis))
    low, high = (near.lowest, near.highest) if near.vector @ axis > 0 else (-near.highest, -near.lowest)
    return float(np.degrees(np.arccos(min(abs(near.vector @ axis), 1.0)))), low, high


@pytest.mark.parametrize(
    "tilts",
    [
        PLAIN,
        replace(PLAIN, axis_angle=23.0),
        replace(PLAIN, axis_angle=-75.0),
        replace(PLAIN, x_tilt=11.0),
        TiltGeometry((-70.0, 30.0)),
    ],
    ids=["along y", "in plane", "near x", "lifted", "asymmetric"],
)
def test_axis_range_and_sign_of_made_volumes_are_seen(tilts):
    seen = _seen(tilts)
    assert len(seen.axes) == 1
    distance, low, high = _distance(seen, tilts)
    assert distance < 3
    assert (low, high) == (pytest.approx(tilts.lowest, abs=3), pytest.approx(tilts.highest, abs=3))
    assert disagreements(seen, tilts) == []


def test_two_axes_are_detected_and_one_given_is_too_few():
    tilts = replace(PLAIN, second=TiltGeometry((-58.0, 45.0), axis_angle=90.0))
    seen = _seen(tilts)
    assert len(seen.axes) == 2
    for axis in (PLAIN, tilts.second):
        distance, low, high = _distance(seen, axis)
        assert distance < 3
        assert (low, high) == (pytest.approx(axis.lowest, abs=4), pytest.approx(axis.highest, abs=4))
    assert disagreements(seen, tilts) == []
    assert "--tilts2" in " ".join(disagreements(seen, PLAIN))
    assert "--tilts2" in " ".join(disagreements(_seen(PLAIN), tilts))


@pytest.mark.parametrize(
    ("tilts", "advice"),
    [
        (PLAIN.mirrored(), "--handedness -1"),
        (replace(PLAIN, axis_angle=40.0), "--axis-angle"),
        (TiltGeometry((-60.0, 30.0)), "are these the tilts"),
        (TiltGeometry((-90.0, 90.0)), "leave none"),
    ],
    ids=["sign", "axis", "range", "none"],
)
def test_what_is_wrong_with_the_tilts_given_is_said(tilts, advice):
    lines = disagreements(_seen(PLAIN), tilts)
    assert len(lines) == 1
    assert advice in lines[0]


@pytest.mark.parametrize(
    ("axes", "advice"), [((1, 0, 2), "--unrotated"), ((2, 1, 0), "along x")], ids=["beam along y", "along x"]
)
def test_rotated_volumes_are_recognised_by_their_beam(axes, advice):
    seen = detect_wedge(np.ascontiguousarray(_made(TiltGeometry((-60.0, 60.0))).transpose(axes)))
    assert advice in " ".join(disagreements(seen, None))


def test_nothing_is_seen_where_nothing_is_missing():
    white = np.random.default_rng(0).normal(size=(40, 50, 44)).astype(np.float32)
    ramp = white + np.linspace(0, 30, 40, dtype=np.float32)[:, None, None]
    for density in (white, ramp):
        seen = detect_wedge(density)
        assert seen.axes == ()
        assert "no wedge is seen" in disagreements(seen, PLAIN)[0]


@pytest.mark.parametrize("shape", [(1, 1, 1), (4, 4, 4), (1, 30, 40), (12, 200, 9), (20, 18, 24), (5, 90, 80), (348, 16, 16)])
def test_small_flat_and_empty_volumes_are_no_trouble(shape):
    made = np.random.default_rng(1).normal(size=shape)
    damaged = made.copy()
    damaged[0, 0, 0] = np.nan
    for density in (made, np.ones(shape), damaged):
        assert detect_wedge(density).axes == ()


def test_angles_of_an_axis_and_back():
    for angle, lift in ((0, 0), (90, 0), (-60, 10), (30, -80)):
        assert angles_of(-axis_of(angle, lift)) == pytest.approx((angle, lift))
    tilt, distance = tilt_of(np.array([[0.1, 0.2, 0.1], [-0.1, 0.0, 0.1]]), axis_of(0, 0))
    assert tilt == pytest.approx([45, -45])
    assert distance == pytest.approx([0.02**0.5] * 2)


SHARED = {
    "real/HAADF_fbp_pm76_full.mrc": [(0, -76, 76)],
    "real/HAADF_fbp_pm76_even.mrc": [(0, -76, 76)],
    "real/HAADF_fbp_pm76_odd.mrc": [(0, -76, 76)],
    "real/cylindra_13pf_MT.mrc": [(0, -64, 56)],
    "bench/dense_a_half1.mrc": [(0, -60, 60)],
    "bench/dense_b_half2.mrc": [(0, -45, 63)],
    "geometry/pytom_e2e_particle_0.mrc": [(0, -60, 60)],
    "geometry/pytom_e2e_particle_1.mrc": [(0, -60, 60)],
    "geometry/pytom_ribo_nowedge.mrc": [],
    "bench/dense_a_truth.mrc": [],
}
# The manifest has no ranges for these: read off maps of power over (k_x / k_z, k_y / k_z), where a rectangle is dark. Its edges
# are graded, in one place over ten degrees, so they are known less well than to three.
DUAL = {
    "real/tardis_dualaxis_0_0_30_47_25.mrc": [(0, -63, 57), (90, -57, 65)],
    "real/tardis_dualaxis_3_0_25_54_25.mrc": [(0, -64, 59), (90, -61, 55)],
}


# One of each kind is looked at in a quick run: halves and copies of the same specimen follow with the slow tests.
SLOW = {name for name in SHARED if name.endswith(("even.mrc", "odd.mrc", "particle_1.mrc", "truth.mrc"))} | {list(DUAL)[1]}


def _cases():
    for names, within in ((SHARED, 3), (DUAL, 6)):
        for name in names:
            yield pytest.param(name, within, marks=[pytest.mark.slow] if name in SLOW else [], id=name)


@pytest.mark.parametrize(("name", "within"), _cases())
def test_the_wedge_of_every_real_tomogram_is_seen(shared, name, within):
    expected = (SHARED | DUAL)[name]
    seen = detect_wedge(np.asarray(read_volume(shared / name).density, dtype=np.float32))
    assert len(seen.axes) == len(expected)
    for angle, lowest, highest in expected:
        distance, low, high = _distance(seen, TiltGeometry((-60.0, 60.0), axis_angle=angle))
        assert distance < 3
        assert (low, high) == (pytest.approx(lowest, abs=within), pytest.approx(highest, abs=within))
