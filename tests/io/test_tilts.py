import pytest

from cryovae.io.tilts import read_tilts
from cryovae.tomogram import InputError


def test_angles_one_a_line(tmp_path):
    path = tmp_path / "a.rawtlt"
    path.write_text("  -45.0\n\n# a note\n0\n 63.00 \n")
    assert read_tilts(path).angles == (-45.0, 0.0, 63.0)


def test_real_files(shared):
    assert (read_tilts(shared / "bench/dense_b.tlt").lowest, read_tilts(shared / "bench/dense_b.tlt").highest) == (-45, 63)
    assert len(read_tilts(shared / "star/cryoetalignment_test.rawtlt").angles) == 3


@pytest.mark.parametrize(
    ("text", "words"), [("12.0\n", "1 tilt angle"), ("", "0 tilt angle"), ("-60\nsixty\n", "line 2"), ("-60\n260\n", "within")]
)
def test_what_is_no_tilt_series_is_refused_with_its_name(tmp_path, text, words):
    path = tmp_path / "bad.tlt"
    path.write_text(text)
    with pytest.raises(InputError, match=words) as caught:
        read_tilts(path)
    assert "bad.tlt" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_tilts(tmp_path / "no.tlt")
