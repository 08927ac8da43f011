"""Values in another unit are refused with the one that was probably meant; plausible ones pass."""

from __future__ import annotations

import pytest

from cryovae.errors import InputError
from cryovae.tomogram import Optics
from cryovae.units import check_voxel_size
from cryovae.workflows.optics import OpticsOptions


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"voltage": 300000.0}, "voltage 300000 kV found, expected kilovolts, e.g. 300: did you mean 300?"),
        ({"voltage": 0.2}, "did you mean 200?"),
        ({"voltage": -300.0}, "expected kilovolts"),
        ({"voltage": float("nan")}, "expected kilovolts"),
        ({"spherical_aberration": 2.7e7}, "expected millimetres, e.g. 2.7: did you mean 2.7? It seems to be in angstrom"),
        ({"spherical_aberration": 2.7e6}, "did you mean 2.7? It seems to be in nanometres"),
        ({"spherical_aberration": 2700.0}, "did you mean 2.7? It seems to be in micrometres"),
        ({"amplitude_contrast": 7.0}, "did you mean 0.07?"),
        ({"phase_shift": 1.5708}, "did you mean 90? It seems to be in radians"),
        ({"phase_shift": 900.0}, "within -360 to 360"),
        ({"b_factor": -100.0}, "did you mean 100?"),
        ({"b_factor": float("inf")}, "square angstrom"),
        (
            {"defocus": (3.5,)},
            "defocus 3.5 angstrom found, expected angstrom, underfocus positive, e.g. 30000: did you mean 35000?",
        ),
        ({"defocus": (3.5e-6,)}, "did you mean 35000? It seems to be in metres"),
        ({"defocus": (-35000.0,)}, "did you mean 35000? Programs with underfocus negative"),
        ({"defocus": (-3.5,)}, "did you mean 35000?"),
        ({"defocus": (3.2, 3.5, 3.4), "angles": (-3.0, 0.0, 3.0)}, "did you mean 34000?"),
        ({"defocus": (3.0e7,)}, "expected angstrom"),
    ],
)
def test_values_in_another_unit_are_refused_with_the_one_meant(values, words):
    with pytest.raises(InputError) as error:
        Optics(**({"defocus": (30000.0,)} | values))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "values",
    [
        {"voltage": 80.0, "spherical_aberration": 0.0, "amplitude_contrast": 0.0},
        {"voltage": 1000.0, "spherical_aberration": 0.001, "amplitude_contrast": 1.0},
        {"phase_shift": 90.0, "defocus": (5000.0,)},
        {"phase_shift": 90.0, "defocus": (0.0,)},
        {"phase_shift": -30.0, "defocus": (-2000.0,)},
        {"phase_shift": 0.0, "defocus": (120000.0,), "b_factor": 800.0},
        {"defocus": (30000.0, -2000.0, 31000.0), "angles": (-3.0, 0.0, 3.0)},
    ],
)
def test_plausible_values_pass(values):
    Optics(**({"defocus": (30000.0,)} | values))


def test_the_option_defocus_is_in_micrometres():
    assert OpticsOptions(defocus=2.5).for_files(1) == [Optics((25000.0,))]
    for value, meant in (
        (25000.0, "did you mean 2.5?"),
        (2500.0, "did you mean 2.5?"),
        (2.5e-6, "did you mean 2.5?"),
        (-2.5, "did you mean 2.5?"),
    ):
        with pytest.raises(InputError) as error:
            OpticsOptions(defocus=value).for_files(1)
        assert meant in str(error.value)


def test_voxel_sizes_in_nanometres_or_metres_are_refused():
    for value, meant in ((0.05, "0.5"), (1.35e-9, "13.5"), (50000.0, "500")):
        with pytest.raises(InputError) as error:
            check_voxel_size(value, "--voxel-size")
        assert "expected angstrom above 0" in str(error.value)
        assert meant in str(error.value) or value > 1
    for value in (0.4, 1.0, 13.48, 336.0):
        check_voxel_size(value, "--voxel-size")
    for value in (0.0, -10.0, float("nan")):
        with pytest.raises(InputError):
            check_voxel_size(value, "--voxel-size")
