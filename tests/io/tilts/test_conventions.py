"""Sign, dose, axis and defocus of one tilt series in the format of every program, with no data but what is made here."""

import math

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cryovae.errors import InputError
from cryovae.io.star.table import Block
from cryovae.io.tilts import read_tilt_series, read_tilts
from cryovae.io.tilts.tables import projections_of
from cryovae.workflows.geometry import GeometryOptions
from tests.helpers import tilt_files
from tests.helpers.tilt_files import ANGLES, AXIS, DEFOCI, DOSES, FORMATS

DOSED = {"mdoc", "warp", "relion 5", "relion 5, imported", "matrices"}
AXES = {"mdoc", "aln", "aln of AreTomo 2", "xf", "warp", "relion 5", "relion 5, imported", "matrices"}
FOCUSED = {"warp", "relion 5", "relion 5, imported", "matrices", "gctf", "stopgap"}


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_the_same_series(tmp_path, kind):
    series = read_tilt_series(FORMATS[kind](tmp_path)).used
    assert series.angles == pytest.approx(ANGLES, abs=1e-3)
    assert series.dose == (pytest.approx(DOSES) if kind in DOSED else None)
    assert series.axis_angle == (pytest.approx(AXIS, abs=1e-3) if kind in AXES else None)
    assert series.defocus_u == (pytest.approx(DEFOCI) if kind in FOCUSED else None)


# Six numbers a line have no mark of their own.
@pytest.mark.parametrize("kind", sorted(FORMATS.keys() - {"xf"}))
def test_every_format_is_known_by_its_content(tmp_path, kind):
    path = FORMATS[kind](tmp_path)
    series = read_tilt_series(path.rename(path.with_suffix(".other")))
    assert series.used.angles == pytest.approx(ANGLES, abs=1e-3)


@pytest.mark.parametrize(("kind", "left_out"), [("warp", (66,)), ("aln", (-60,)), ("aln of AreTomo 2", (-60,))])
def test_tilts_that_were_left_out_are_no_part_of_the_geometry(tmp_path, kind, left_out):
    path = FORMATS[kind](tmp_path)
    series = read_tilt_series(path)
    assert tuple(a for a, out in zip(series.angles, series.excluded, strict=True) if out) == left_out
    assert (read_tilts(path).lowest, read_tilts(path).highest) == (-40.5, 51.75)


@pytest.mark.parametrize("kind", sorted(FORMATS))
def test_the_second_axis_keeps_its_signs(tmp_path, kind):
    """A dual-axis series is two files; the second here is the first with opposite signs."""
    first = FORMATS[kind](tmp_path)
    (tmp_path / "b.tlt").write_text("".join(f"{-angle}\n" for angle in ANGLES))
    (geometry,) = GeometryOptions(tilts=[first], tilts2=[tmp_path / "b.tlt"]).geometries(1)
    assert geometry.angles == pytest.approx(ANGLES, abs=1e-3)
    assert geometry.second.angles == pytest.approx([-angle for angle in ANGLES])
    (other,) = GeometryOptions(tilts=[tmp_path / "b.tlt"], tilts2=[first]).geometries(1)
    assert other.second.angles == pytest.approx(ANGLES, abs=1e-3)


def test_the_dose_of_an_mdoc_is_that_before_each_tilt(tmp_path):
    path = FORMATS["mdoc"](tmp_path)
    series = read_tilt_series(path)
    assert series.dose == DOSES
    assert (series.voltage, series.pixel_size, series.names[1]) == (300, 2.5, "D:\\ts_1.tif")
    # Without it for every tilt, the dose is not known: that of a tilt itself says nothing of those before.
    path.write_text(path.read_text().replace("PriorRecordDose = 3.1\n", ""))
    assert read_tilt_series(path).dose is None


@pytest.mark.parametrize(
    ("beam", "angle"), [((-0.15687, 0, 0.98762), 9.025), ((0.73251, 0, 0.6779126), -47.22), ((0.5, 0, -0.866), -150)]
)
def test_the_beam_of_a_matrix_points_to_negative_x_for_positive_tilts(tmp_path, beam, angle):
    """The first is a row of a table of RELION 5, which says 9.02 for rlnTomoYTilt beside it."""
    row = {"rlnTomoProjX": "[0.1,-0.99,0.01,0]", "rlnTomoProjZ": f"[{beam[0]},{beam[1]},{beam[2]},0]"}
    assert projections_of(Block({name: (value,) for name, value in row.items()}), tmp_path / "a").angles[0] == pytest.approx(
        angle, abs=0.01
    )


def test_the_x_tilt_of_relion_lifts_the_axis_the_other_way(tmp_path):
    path = FORMATS["relion 5"](tmp_path)
    path.write_text(path.read_text().replace("\t0.0\t", "\t4.5\t"))
    assert read_tilts(path).x_tilt == -4.5
    # R_x(4.5)^T y = y cos - z sin: the direction that all images share is below +y.
    shared = Rotation.from_euler("x", 4.5, degrees=True).inv().apply([0, 1, 0])
    assert math.degrees(math.atan2(shared[2], shared[1])) == pytest.approx(-4.5)


def test_angles_of_an_aln_are_those_of_its_column_and_its_lines_must_be_whole(tmp_path):
    path = tilt_files.aretomo(tmp_path, offsets=False)
    text = path.read_text()
    # The column is found by its name.
    swapped = text.replace("    BASE     TILT", "     TILT     BASE")
    path.write_text(
        "\n".join(_swap(line) if line[:5].strip().isdigit() and "# Local" not in line else line for line in swapped.split("\n"))
    )
    assert read_tilt_series(path).used.angles == ANGLES
    for old, new, words in (
        ("-40.50\n", "\n", "expected 10 numbers"), ("-40.50\n", "1567301525373690323140608.00\n", "within -90 to 90"),
        ("# SEC ", "# XYZ ", "before the names of the columns"), ("TILT\n", "ANGLE\n", "no line # SEC ROT"),
        ("-40.50", "nan", "expected 10"),
    ):  # fmt: skip
        path.write_text(text.replace(old, new))
        with pytest.raises(InputError, match=words) as caught:
            read_tilts(path)
        assert "\n" not in str(caught.value)
    path.write_text(text.split("    0    84")[0])
    with pytest.raises(InputError, match="no alignments after"):
        read_tilts(path)


def _swap(line):
    words = line.split()
    return " ".join([*words[:-2], words[-1], words[-2]]) if len(words) == 10 else line


def test_a_star_file_with_the_tilts_of_two_series_is_refused(tmp_path):
    path = FORMATS["relion 5"](tmp_path)
    text = path.read_text()
    path.write_text(text + text)
    with pytest.raises(InputError, match="two blocks of one name, data_ts"):
        read_tilts(path)
    path.write_text(text + text.replace("data_ts", "data_other").replace("rlnTomoYTilt", "rlnSomethingElse"))
    with pytest.raises(InputError, match=r"has tilts in 2 blocks .data_ts, data_other., expected one block"):
        read_tilts(path)


def test_angles_of_a_linked_file_are_beside_its_target(tmp_path):
    for kind in ("xf", "gctf"):
        (tmp_path / kind).mkdir()
        path, link = FORMATS[kind](tmp_path / kind), tmp_path / f"link_to.{kind}"
        link = link.with_suffix(path.suffix)
        link.symlink_to(path)
        assert read_tilts(link).angles == ANGLES
        # Angles beside the link are those of another series.
        link.with_suffix(".tlt").write_text("".join(f"{angle}\n" for angle in np.linspace(-10, 10, 5)))
        assert read_tilts(link).angles == ANGLES
        (tmp_path / kind / "ts.tlt").unlink()
        assert read_tilts(link).highest == 10
        link.with_suffix(".tlt").unlink()
