"""A model that was trained at another voxel size, or with another wedge, says so; 0.1 models know neither."""

from dataclasses import replace

import numpy as np
import pytest

from cryovae.checkpoint import TrainedOn
from cryovae.checks.model_match import checked_match, differences, tell_match
from cryovae.config import override, preset
from cryovae.errors import InputError
from cryovae.tomogram import TiltGeometry, Tomogram

TRAINED = TrainedOn("old", 10.0, 0.8, -60.0, 60.0, 60.0)


def _tomogram(voxel_size=10.0, tilts=(-60, 60)):
    return Tomogram("ts", np.zeros((4, 5, 6), np.float32), voxel_size, TiltGeometry.from_range(*tilts))


@pytest.mark.parametrize(("voxel_size", "lines"), [(10.0, 0), (10.49, 0), (9.51, 0), (10.51, 1), (9.49, 1), (4.0, 1), (40.0, 1)])
def test_a_voxel_size_that_differs_by_more_than_5_percent_is_said(voxel_size, lines):
    assert len(differences([TRAINED], _tomogram(voxel_size))) == lines


def test_another_voxel_size_is_refused_unless_it_is_allowed():
    with pytest.raises(InputError, match=r"ts: voxel size of 4 angstrom found, expected about 10, .* 2\.5 times .*--other-scale"):
        checked_match([TRAINED], _tomogram(4.0), preset("quick"))
    allowed = override(preset("quick"), {"restoration.other_scale": True})
    (line,) = checked_match([TRAINED], _tomogram(4.0), allowed)
    assert "2.5 times the size" in line


def test_any_of_several_training_tomograms_may_match():
    both = [TRAINED, replace(TRAINED, name="new", voxel_size=4.0)]
    assert differences(both, _tomogram(4.1)) == []
    assert "expected about 4 to 10" in differences(both, _tomogram(7.0))[0]


@pytest.mark.parametrize(("tilts", "lines"), [((-60, 60), 0), ((-55, 56), 0), ((-50, 59), 1), ((-70, 71), 1)])
def test_another_wedge_is_a_warning_alone(tilts, lines, capsys):
    lines_said = checked_match([TRAINED], _tomogram(tilts=tilts), preset("quick"))
    assert len(lines_said) == lines
    tell_match([TRAINED], _tomogram(tilts=tilts))
    assert capsys.readouterr().err.count("missing wedge of") == lines


def test_a_model_that_knows_nothing_of_its_training_says_nothing():
    assert checked_match([], _tomogram(4.0, (-30, 30)), preset("quick")) == []
