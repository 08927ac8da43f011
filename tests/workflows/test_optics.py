"""What the options say of the contrast transfer."""

from pathlib import Path

import pytest

from cryovae.errors import InputError
from cryovae.tomogram import Optics
from cryovae.workflows.optics import OpticsOptions


def test_nothing_is_divided_out_unless_asked_for():
    assert OpticsOptions().for_files(2) == [None, None]
    assert OpticsOptions().for_table(Path("t.star")) is False


def test_one_defocus_holds_for_all_tomograms_in_micrometres():
    optics = OpticsOptions(defocus=2.5, voltage=200.0, flipped=True).for_files(2)
    assert optics == [Optics((25000.0,), voltage=200.0, flipped=True)] * 2


@pytest.mark.parametrize(
    ("ctf", "defocus", "microscope", "words"),
    [
        ([Path("a.star")], 2.0, {}, "expected one of them"),
        (None, 0.0, {}, "expected micrometres"),
        (None, None, {"voltage": 300.0}, "without a defocus"),
        ([Path("a.star")] * 3, None, {}, "one for each, or one for all"),
        (None, 2.5, {"amplitude_contrast": 7.0}, "did you mean 0.07"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(ctf, defocus, microscope, words):
    with pytest.raises(InputError, match=words) as error:
        OpticsOptions(ctf, defocus, **microscope).for_files(2)
    assert "\n" not in str(error.value)


def test_angles_alone_are_no_optics(tmp_path):
    (tmp_path / "a.tlt").write_text("-60\n0\n60\n")
    with pytest.raises(InputError, match="has no defocus"):
        OpticsOptions([tmp_path / "a.tlt"]).for_files(1)


def test_a_table_names_itself_or_nothing(tmp_path):
    table = tmp_path / "t.star"
    assert OpticsOptions([tmp_path / "." / "t.star"]).for_table(table)
    with pytest.raises(InputError, match="expected the table itself"):
        OpticsOptions([tmp_path / "u.star"]).for_table(table)
    with pytest.raises(InputError, match="rlnDefocus"):
        OpticsOptions(defocus=2.5).for_table(table)
