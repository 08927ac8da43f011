"""What a spectrum says about the tilts given: refused where it is clear, silent where it is right or not clear."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cryovae import fourier
from cryovae.evaluation.wedge_detection import DetectedAxis, DetectedWedge, detect_wedge
from cryovae.evaluation.wedge_judgement import judge
from cryovae.findings import Severity
from cryovae.physics.directions import tilt_mask
from cryovae.tomogram import TiltGeometry

SHAPE = (32, 48, 40)
LARGE = (80, 96, 88)
MEASURED = TiltGeometry((-42.0, 63.0))


@pytest.fixture(scope="module")
def density():
    """Coloured noise in the bins that MEASURED measures."""
    white = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    mask = tilt_mask(fourier.frequencies(SHAPE), MEASURED, 1 / min(SHAPE))
    return fourier.filtered(white, mask / (0.1 + fourier.radius(SHAPE))).numpy()


@pytest.fixture(scope="module")
def seen(density):
    return detect_wedge(density)


def test_the_right_tilts_are_not_doubted(seen):
    assert judge(seen, MEASURED, SHAPE) == []
    assert judge(seen, TiltGeometry((-45.0, 0.0, 60.0)), SHAPE) == []


@pytest.mark.parametrize(
    ("tilts", "action"),
    [
        (MEASURED.mirrored(), "--handedness -1"),
        (replace(MEASURED, axis_angle=90.0), "--axis-angle"),
        (TiltGeometry((-20.0, 20.0)), "--tilt-range"),
        (TiltGeometry((-90.0, 90.0)), "tilts of the reconstruction"),
    ],
    ids=["mirrored", "axis", "range", "no wedge"],
)
def test_tilts_that_contradict_the_spectrum_are_refused(seen, tilts, action):
    (judgement,) = judge(seen, tilts, SHAPE)
    assert judgement.severity is Severity.REFUSAL
    assert action in judgement.action


@pytest.mark.parametrize(("axes", "action"), [((1, 0, 2), "--unrotated"), ((2, 1, 0), "rotate the volume")], ids=["y", "x"])
def test_a_beam_along_another_axis_is_refused(density, axes, action):
    lying = np.ascontiguousarray(density.transpose(axes))
    (judgement,) = judge(detect_wedge(lying), MEASURED, lying.shape)
    assert judgement.severity is Severity.REFUSAL
    assert action in judgement.action


def test_what_was_rotated_on_reading_but_lay_right_is_refused(density):
    lying = np.ascontiguousarray(density.transpose((1, 0, 2)))
    (judgement,) = judge(detect_wedge(lying), MEASURED, lying.shape, unrotated=True)
    assert "--upright" in judgement.action


def _wedge(low, high, step=3.4, share=0.85):
    return DetectedWedge((DetectedAxis(0.0, 0.0, low, high),), step, share)


@pytest.mark.parametrize(
    ("low", "high", "given"),
    [(-60.0, 55.0, (-54.0, 60.0)), (-63.0, 56.0, (-56.0, 63.0)), (-58.0, 50.0, (-50.0, 58.0))],
)
def test_a_mirror_image_is_told_from_the_error_of_the_ends(low, high, given):
    (judgement,) = judge(_wedge(low, high), TiltGeometry(given), LARGE)
    assert "mirror image" in judgement.seen
    assert judge(_wedge(-high, -low), TiltGeometry(given), LARGE) == []


def test_ranges_that_are_nearly_symmetric_have_no_mirror_image():
    for low, high in ((-62.0, 58.0), (-58.0, 62.0), (-66.0, 57.0)):
        assert judge(_wedge(low, high), TiltGeometry((-60.0, 60.0)), LARGE) == []
        assert judge(_wedge(low, high), TiltGeometry((-59.0, 61.0)), LARGE) == []


def test_an_unclear_spectrum_contradicts_nothing():
    for wedge in (_wedge(-63, 42, step=2.0), _wedge(-63, 42, share=0.5)):
        assert judge(wedge, MEASURED, LARGE) == []
    assert judge(_wedge(-63, 42), MEASURED, (20, 96, 88)) == []


def test_a_little_off_is_a_warning_and_far_off_a_refusal():
    severities = [[one.severity for one in judge(_wedge(-60 + by, 60), TiltGeometry((-60.0, 60.0)), LARGE)] for by in (7, 12, 20)]
    assert severities == [[], [Severity.WARNING], [Severity.REFUSAL]]


def test_a_second_axis_that_is_seen_or_not_is_a_warning():
    second = TiltGeometry((-50.0, 50.0), axis_angle=90.0)
    pair = DetectedWedge((DetectedAxis(0.0, 0.0, -50, 50), DetectedAxis(90.0, 0.0, -50, 50)), 3.0, 0.7)
    one, both = TiltGeometry((-50.0, 50.0)), replace(TiltGeometry((-50.0, 50.0)), second=second)
    assert judge(pair, both, LARGE) == []
    for wedge, tilts in ((pair, one), (_wedge(-50, 50), both)):
        assert [judgement.severity for judgement in judge(wedge, tilts, LARGE)] == [Severity.WARNING]


def test_no_wedge_at_all_is_said_of_a_volume_that_is_large_enough():
    none = DetectedWedge((), 0.2, 0.02)
    assert [one.severity for one in judge(none, MEASURED, LARGE)] == [Severity.WARNING]
    assert [one.severity for one in judge(DetectedWedge((), 2.0, 0.2), MEASURED, LARGE)] == [Severity.NOTE]
    assert judge(none, MEASURED, SHAPE) == []
    assert judge(none, TiltGeometry((-90.0, 90.0)), LARGE) == []
