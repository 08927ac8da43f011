"""Of several columns the one of angles is taken, and where that is not plain, the file is refused with the columns named."""

import numpy as np
import pytest

from cryovae.errors import InputError
from cryovae.io.tilts import read_tilts

RNG = np.random.default_rng(5)
TILTS = np.arange(-60, 61, 3.0)
N = len(TILTS)
INDEX = np.arange(1, N + 1)
# Dose-symmetric: 0, 3, -3, -6, 6 ...
ORDER = np.argsort(np.argsort(np.abs(TILTS - 0.1))) + 1
DOSE = (ORDER - 1) * 3.2
LOW_DOSE = (ORDER - 1) * 1.5
REFINED = TILTS + RNG.normal(0, 0.1, N)
ONE_SIDED = np.arange(N) * 1.5
SHIFTS = RNG.normal(0, 15, N)


def text_of(*columns, separator=" ", header="", form="{:g}"):
    rows = zip(*columns, strict=True)
    return header + "".join(separator.join(form.format(v) for v in row) + "\n" for row in rows)


def read(tmp_path, text):
    (tmp_path / "a.tlt").write_text(text)
    return np.array(read_tilts(tmp_path / "a.tlt").angles)


PLAIN = {
    "index, angle": (TILTS, [INDEX, TILTS]),
    "index from 0": (TILTS, [INDEX - 1, TILTS]),
    "angle, index": (TILTS, [TILTS, INDEX]),
    "order, refined angle": (REFINED, [ORDER, REFINED]),
    "angle, order, dose": (TILTS, [TILTS, ORDER, DOSE]),
    "index, angle, dose": (TILTS, [INDEX, TILTS, DOSE]),
    "dose below 90": (TILTS, [LOW_DOSE, TILTS]),
    "dose after each": (TILTS, [LOW_DOSE + 1.5, TILTS]),
    "dose of each, axis, defocus": (TILTS, [TILTS, np.full(N, 3.0), 85 + RNG.normal(0, 0.1, N), 30000.0 + INDEX]),
    "index, one side": (ONE_SIDED, [INDEX, ONE_SIDED]),
    "a column of zeros": (TILTS, [np.zeros(N), TILTS]),
    "falling angles": (-TILTS, [INDEX, -TILTS]),
    "in the order of recording": (TILTS[np.argsort(ORDER)], [INDEX, TILTS[np.argsort(ORDER)]]),
    "some tilts left out": (np.delete(TILTS, [3, 4, 20]), [INDEX[: N - 3], np.delete(TILTS, [3, 4, 20])]),
    "two tilts": (np.array([-60, 60]), [[0, 1], [-60, 60]]),
    "angles and times": (TILTS, [TILTS, INDEX * 37.5 + 1000]),
}


@pytest.mark.parametrize("kind", PLAIN)
def test_the_column_of_angles_is_taken(tmp_path, kind):
    angles, columns = PLAIN[kind]
    assert read(tmp_path, text_of(*columns, form="{:.9g}")) == pytest.approx(angles)


AMBIGUOUS = {
    "stage and refined angles": [TILTS, REFINED],
    "two counts": [INDEX, INDEX - 1],
    "one side and dose": [ONE_SIDED, LOW_DOSE],
    "one side in steps of 1 and shifts": [INDEX - 1.0, SHIFTS],
    "one side and shifts": [ONE_SIDED, np.clip(SHIFTS, -80, 80)],
    "angles and shifts": [TILTS, np.clip(SHIFTS, -80, 80)],
    "index and shifts": [INDEX, np.clip(SHIFTS, -80, 80)],
    "angles and measured dose": [TILTS, np.cumsum(RNG.uniform(1, 2.2, N))],
    "index and dose": [INDEX, INDEX * 0.1],
    "radians": [INDEX, np.radians(TILTS)],
    "no angles": [np.full(N, 3.0), 1000.0 + INDEX],
}


@pytest.mark.parametrize("kind", AMBIGUOUS)
def test_ambiguous_columns_are_named(tmp_path, kind):
    with pytest.raises(InputError, match=r"a\.tlt has 2 columns, of which .* is plainly of angles: column") as caught:
        read(tmp_path, text_of(*AMBIGUOUS[kind]))
    assert "\n" not in str(caught.value)
    if kind in ("stage and refined angles", "one side and dose", "angles and measured dose", "two counts"):
        assert "column 1 (" in str(caught.value)
        assert "and column 2 (" in str(caught.value)


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        ("index angle\n", [INDEX, TILTS]),
        ("# number  tilt\n", [INDEX, TILTS]),
        ("Tilt Angle [deg]\n", [TILTS]),
        ("tilt_angle dose\n", [TILTS, np.cumsum(RNG.uniform(1, 2.2, N))]),
        ("shift_x tilt\n", [SHIFTS, TILTS]),
        ("order, Tilt (deg)\n", [ORDER, TILTS]),
        ("n angle\n", [INDEX, TILTS]),
    ],
)
@pytest.mark.parametrize("separator", [" ", "\t", ", ", ",", ";", " ; "])
def test_a_header_and_any_separator(tmp_path, header, columns, separator):
    assert read(tmp_path, text_of(*columns, header=header, separator=separator)) == pytest.approx(TILTS)


def test_a_header_that_is_wrong_is_not_believed(tmp_path):
    with pytest.raises(InputError, match="2 columns"):
        read(tmp_path, text_of(INDEX, TILTS, header="angle index\n"))
    with pytest.raises(InputError, match="2 columns"):
        read(tmp_path, text_of(TILTS * 100, TILTS, header="angle other\n"))
    # A first line that is no header is not skipped: a tilt would be missing.
    for line in ("x60.00\n", "sixty\n", "tilt 3\n", "angle what 7\n"):
        with pytest.raises(InputError, match=r"line 1 is '.*expected one angle in degrees a line"):
            read(tmp_path, text_of(TILTS, header=line))


def test_commas_are_decimal_signs_or_separators_or_refused(tmp_path):
    assert read(tmp_path, "1;-60,5\n2;0,25\n3;60,5\n") == pytest.approx([-60.5, 0.25, 60.5])
    assert read(tmp_path, "1,-60\n2,0\n3,60\n") == pytest.approx([-60, 0, 60])
    assert read(tmp_path, "-60.5,1\n0.5,2\n60.5,3\n") == pytest.approx([-60.5, 0.5, 60.5])
    for text in ("-60,5\n0,25\n60,5\n", "-60,1\n0,2\n60,3\n"):
        with pytest.raises(InputError, match="commas that may be decimal signs"):
            read(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("-60 1\n0\n60 3\n", "line 2 is '0'"),
        ("-60 1\n0 2 3\n60 3\n", "line 2 is '0 2 3'"),
        ("1 -60\n2 0 # note\n3 sixty\n", "line 3 is '3 sixty'"),
        (" ".join(map(str, range(13))) + "\n", "line 1 is"),
        ("1,,-60\n2,,0\n", "line 1 is '1,,-60'"),
    ],
)
def test_lines_that_are_no_rows_are_named(tmp_path, text, words):
    with pytest.raises(InputError, match=words) as caught:
        read(tmp_path, text)
    assert "expected one angle in degrees a line" in str(caught.value)


def test_one_column_of_counts_or_radians_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"numbers from 1 to 41 in order, .*: these seem to be numbers of images"):
        read(tmp_path, text_of(INDEX))
    with pytest.raises(InputError, match=r"seem to be in radians, convert them to -60 \.\.\. 60"):
        read(tmp_path, text_of(np.radians(TILTS), form="{:.6f}"))
    # One side in steps of 1, and few tilts, may be angles.
    assert read(tmp_path, text_of(INDEX - 1)) == pytest.approx(INDEX - 1)
    assert read(tmp_path, text_of([1, 2, 3])) == pytest.approx([1, 2, 3])
