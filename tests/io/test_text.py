"""Text metadata are read in the encoding of any program, and what is no text is refused."""

import codecs

import pytest

from cryovae.errors import InputError
from cryovae.io.star.tomograms import read_tomograms
from cryovae.io.text import decoded, read_text
from cryovae.io.tilts import read_tilt_series
from tests.helpers.tilt_files import FORMATS, SERIES

TEXT = "PixelSpacing = 5.4\nOperator = Müller, 20 µm\n\n-60.0\n"
ENCODED = {
    "utf-8": TEXT.encode(),
    "utf-8 with a mark": codecs.BOM_UTF8 + TEXT.encode(),
    "utf-16 little-endian": codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"),
    "utf-16 big-endian": codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
    "utf-16 without a mark": TEXT.encode("utf-16-le"),
    "utf-16 big-endian without a mark": TEXT.encode("utf-16-be"),
    "utf-32": codecs.BOM_UTF32_LE + TEXT.encode("utf-32-le"),
    "utf-32 big-endian": codecs.BOM_UTF32_BE + TEXT.encode("utf-32-be"),
    "latin-1": TEXT.encode("latin-1"),
    "windows": TEXT.encode("cp1252"),
    "lines of windows": TEXT.replace("\n", "\r\n").encode("cp1252"),
    "lines of old apples": TEXT.replace("\n", "\r").encode(),
    "end of a file of dos": TEXT.encode("cp1252") + b"\x1a",
}


@pytest.mark.parametrize("kind", ENCODED)
def test_text_is_the_same_in_every_encoding(kind):
    assert decoded(ENCODED[kind]) == TEXT


def test_a_byte_of_a_code_page_leaves_the_rest_as_it_is():
    assert decoded("µ é ".encode() + b"\x80 \xb5 \x81 \x85") == "µ é € µ \x81 …"
    assert decoded("<?xml version='1.0' encoding='windows-1251'?><a>Ж</a>".encode("cp1251")).endswith("<a>Ж</a>")
    assert decoded(b"<?xml version='1.0' encoding='nonsense'?><a>\xe9</a>").endswith("<a>é</a>")
    # Codecs that Python knows and that are none of text.
    assert decoded(b"<?xml version='1.0' encoding='zlib'?><a>\xe9</a>").endswith("<a>é</a>")


@pytest.mark.parametrize(
    "data",
    [bytes(range(256)), bytes(100), b"\xff\xfe\0data_", b"\x1f\x8b\x08\x00abc", b"PK\x03\x04", b"-60\n\x7f\n", b"\xff\xfe\1\2"],
)
def test_what_is_no_text_is_refused(tmp_path, data):
    (tmp_path / "a.tlt").write_bytes(data)
    with pytest.raises(InputError, match=r"a\.tlt is no text file, expected numbers: check its name"):
        read_text(tmp_path / "a.tlt", 1000, "", "numbers")


def test_files_that_are_missing_or_huge_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"does not exist: look elsewhere"):
        read_text(tmp_path / "a", 1000, "look elsewhere", "numbers")
    with pytest.raises(InputError, match="does not exist"):
        read_text(tmp_path, 1000, "", "numbers")
    with pytest.raises(InputError, match="does not exist"):
        read_text(tmp_path / ("a" * 300), 1000, "", "numbers")
    (tmp_path / "a").write_bytes(b"1" * (3 << 20))
    with pytest.raises(InputError, match="is 3 MB, expected numbers of 2 MB at most"):
        read_text(tmp_path / "a", 2 << 20, "", "numbers")


ENCODINGS = ("utf-8-sig", "utf-16", "latin-1", "cp1252", "utf-16-le")


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("kind", FORMATS)
def test_tilts_of_every_format_are_read_in_every_encoding(tmp_path, kind, encoding):
    path = FORMATS[kind](tmp_path)
    plain = path.read_text()
    # A sign of the microscope's code page in a comment, a path or a name.
    for mark, foreign in (("D:\\", "D:\\Prüfung\\"), ("# note", "# 20 µm"), ("frames", "Prüfung")):
        plain = plain.replace(mark, foreign)
    path.write_text(plain.replace("\n", "\r\n"), encoding=encoding, newline="")
    assert read_tilt_series(path).used.angles == pytest.approx(SERIES.angles, abs=0.02)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_tables_are_read_in_every_encoding(tmp_path, encoding):
    (tmp_path / "Prüfung_1.mrc").write_bytes(b"")
    text = "data_\n\nloop_\n_rlnTomoReconstructedTomogram #1\n_rlnTiltMin #2\n_rlnTiltMax #3\nPrüfung_1.mrc -60 50\n"
    (tmp_path / "a.star").write_bytes(text.encode(encoding))
    (entry,) = read_tomograms(tmp_path / "a.star").entries
    assert (entry.name, entry.tilts.highest, entry.full.is_file()) == ("Prüfung_1", 50, True)
