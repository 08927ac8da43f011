"""What the options say of the contrast transfer."""

from pathlib import Path

import pytest

from cryovae.cli.optics import optics_given, table_has_optics
from cryovae.errors import InputError
from cryovae.tomogram import Optics


def test_nothing_is_divided_out_unless_asked_for():
    assert optics_given(None, None, 2) == [None, None]
    assert table_has_optics(None, None, Path("t.star")) is False


def test_one_defocus_holds_for_all_tomograms_in_micrometres():
    found = optics_given(None, 2.5, 2, voltage=200.0, flipped=True)
    assert found == [Optics((25000.0,), voltage=200.0, flipped=True)] * 2


@pytest.mark.parametrize(
    ("ctf", "defocus", "microscope", "words"),
    [
        ([Path("a.star")], 2.0, {}, "expected one of them"),
        (None, 0.0, {}, "expected micrometres"),
        (None, None, {"voltage": 300.0}, "without a defocus"),
        ([Path("a.star")] * 3, None, {}, "one for each, or one for all"),
        (None, 2.5, {"amplitude_contrast": 7.0}, "expected values like"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(ctf, defocus, microscope, words):
    with pytest.raises(InputError, match=words) as found:
        optics_given(ctf, defocus, 2, **microscope)
    assert "\n" not in str(found.value)


def test_angles_alone_are_no_optics(tmp_path):
    (tmp_path / "a.tlt").write_text("-60\n0\n60\n")
    with pytest.raises(InputError, match="nothing of the defocus"):
        optics_given([tmp_path / "a.tlt"], None, 1)


def test_a_table_names_itself_or_nothing(tmp_path):
    table = tmp_path / "t.star"
    assert table_has_optics([tmp_path / "." / "t.star"], None, table)
    with pytest.raises(InputError, match="expected the table itself"):
        table_has_optics([tmp_path / "u.star"], None, table)
    with pytest.raises(InputError, match="rlnDefocus"):
        table_has_optics(None, 2.5, table)
