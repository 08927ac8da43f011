"""Every format of tilts: values of real files, excluded tilts left out, our sign, and one line for what is no tilt series."""

import math

import numpy as np
import pytest

from cryovae.errors import InputError
from cryovae.io.tilts import read_tilt_series, read_tilts
from tests.helpers.warp import WARP


def _warp(path, use="True\nTrue\nFalse\nTrue", level_x="0", level_y="0"):
    path.write_text(WARP.format(use=use, level_x=level_x, level_y=level_y))
    return path


def test_angles_one_a_line(tmp_path):
    path = tmp_path / "a.rawtlt"
    path.write_text("  -45.0\n\n# a note\n0\n 63.00 \n")
    assert read_tilts(path).angles == (-45.0, 0.0, 63.0)


def test_warp_changes_the_sign_and_excludes_unused_tilts(tmp_path):
    series = read_tilt_series(_warp(tmp_path / "ts.xml"))
    assert series.angles == (-40.01, -0.02, 38.5, 60.0)
    assert series.excluded == (False, False, True, False)
    assert read_tilts(tmp_path / "ts.xml").angles == (-40.01, -0.02, 60.0)
    assert series.used.dose == (105.6, 0, 6)
    assert series.used.names == ("../frames/a b.tif", "../frames/b.tif", "../frames/d.tif")
    optics = series.optics()
    assert optics.defocus == pytest.approx((30000, 31000, 33000))
    assert optics.angles == series.used.angles
    assert (optics.voltage, optics.spherical_aberration, optics.amplitude_contrast) == (200, 2.0, 0.07)
    assert np.subtract(series.defocus_u, series.defocus_v) == pytest.approx([2000] * 4)


def test_warp_level_angles_are_part_of_the_geometry(tmp_path):
    level = read_tilt_series(_warp(tmp_path / "ts.xml", level_x="10.25", level_y="-10.5"))
    assert level.angles == pytest.approx((-29.51, 10.48, 49.0, 70.5))
    assert level.x_tilt == -10.25
    assert read_tilts(tmp_path / "ts.xml").x_tilt == -10.25


def test_an_unknown_suffix_is_resolved_by_the_content(tmp_path, shared):
    for name, kind in (("cryoetalignment_test.aln", 8), ("mdocfile_tilt_series.mdoc", 41), ("relion5_220728_TS_01.star", 41)):
        (tmp_path / "angles.txt").write_bytes((shared / "star" / name).read_bytes())
        assert len(read_tilt_series(tmp_path / "angles.txt").angles) == kind
    assert len(read_tilt_series(_warp(tmp_path / "angles.txt")).angles) == 4


def test_a_dark_frame_of_aretomo_is_excluded(shared):
    series = read_tilt_series(shared / "star/cryoetalignment_test.aln")
    assert series.used.angles == (-61.5, -60, -58.5, -57)
    assert sorted(a for a, out in zip(series.angles, series.excluded, strict=True) if out) == [-66, -64.5, 66, 67.5]
    assert series.axis_angle == pytest.approx(-12.6611)


def test_transforms_give_the_axis_and_the_file_beside_them_the_angles(shared, tmp_path):
    """The shared file's matrices turn an image by atan2(0.197, 0.980) = 11.4 degrees, so the axis stood at -11.4."""
    series = read_tilt_series(shared / "star/cryoetalignment_test.xf")
    assert series.angles == (-66, -64.5, -63)
    assert series.axis_angle == pytest.approx(-math.degrees(math.atan2(0.1972, 0.9803)), abs=0.05)
    (tmp_path / "a.xf").write_text("1 0 0 1 0 0\n1 0 0 1 0 0\n")
    with pytest.raises(InputError, match=r"a\.tlt is not there"):
        read_tilt_series(tmp_path / "a.xf")
    (tmp_path / "a.tlt").write_text("-60\n0\n60\n")
    with pytest.raises(InputError, match=r"has 2 tilts .* 3, expected as many"):
        read_tilt_series(tmp_path / "a.xf")


def test_axes_at_180_degrees_do_not_cancel(tmp_path):
    rotated = [np.radians(179.9), np.radians(-179.9)]
    (tmp_path / "a.xf").write_text("".join(f"{np.cos(t)} {-np.sin(t)} {np.sin(t)} {np.cos(t)} 0 0\n" for t in rotated))
    (tmp_path / "a.tlt").write_text("-60\n60\n")
    assert abs(read_tilt_series(tmp_path / "a.xf").axis_angle) == pytest.approx(180, abs=0.01)


def test_serialem(shared):
    series = read_tilt_series(shared / "star/cryocat_017.mdoc")
    assert len(series.angles) == 60
    assert series.angles[0] == pytest.approx(-52.0064)
    assert (series.axis_angle, series.voltage, series.pixel_size) == (82.9, 300, 1.971)
    assert series.dose[0] == pytest.approx(134.379)
    assert series.names[0].endswith("017_01.mrc")


def test_relion_5_takes_refined_angles_and_its_matrices_agree(shared, tmp_path):
    """The same table holds angles and projection matrices: one reader checks the other, sign and axis included."""
    from cryovae.io.star.table import read_blocks
    from cryovae.io.tilts.tables import projections_of

    path = shared / "star/relion5_220728_TS_01.star"
    series = read_tilt_series(path)
    assert series.angles[:3] == pytest.approx((9.02, 12.02, 6.02))
    assert series.defocus_u[0] == pytest.approx(39424.761719)
    assert series.optics().defocus[0] == pytest.approx((39424.761719 + 38845.8125) / 2)
    assert series.dose[:2] == (0, 3)
    projected = projections_of(next(iter(read_blocks(path).values())), path)
    assert projected.angles == pytest.approx(series.angles, abs=0.01)
    assert projected.axis_angle == pytest.approx(series.axis_angle, abs=0.01)
    assert read_tilts(shared / "star/cylindra_relion5_13pf_MT.star").angles == (0.1, -30.1, 30.3, 59.9, -60.1)


def test_gctf_and_stopgap(shared, tmp_path):
    series = read_tilt_series(shared / "star/cryocat_017_gctf.star")
    assert series.angles[:2] == (-52.01, -50.01)
    assert series.optics().defocus[0] == pytest.approx((35268.359375 + 35036.40625) / 2)
    assert series.amplitude_contrast == 0.07
    with pytest.raises(InputError, match="several tomograms"):
        read_tilts(shared / "star/cryocat_wedge_list.star")
    lines = (shared / "star/cryocat_wedge_list.star").read_text().splitlines()
    rows = [line for line in lines if line.startswith("17 ")]
    (tmp_path / "17.star").write_text("\n".join([line for line in lines if not line[:1].isdigit()] + rows))
    one = read_tilt_series(tmp_path / "17.star")
    assert len(one.angles) == len(rows)
    assert one.optics().defocus[0] == pytest.approx(35152.38)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("bad.tlt", "12.0\n", "1 tilt angle"),
        ("bad.tlt", "", "0 tilt angle"),
        ("bad.tlt", "-60\nsixty\n", "line 2"),
        ("bad.tlt", "-60\n260\n", "within"),
        ("bad.tlt", "-60\nnan\n", "expected degrees"),
        ("bad.tlt", "1 2 3 4 5\n", "one angle in degrees a line"),
        ("bad.xml", "<TiltSeries><Angles>1\n2", "cannot be read as XML"),
        ("bad.xml", "<Movie/>", "expected <TiltSeries>"),
        ("bad.xml", "<TiltSeries/>", "no <Angles>"),
        ("bad.xml", "<TiltSeries><Angles>1\nx</Angles></TiltSeries>", "'x' for Angles"),
        ("bad.xml", "<TiltSeries><Angles>1\n2</Angles><Dose>1</Dose></TiltSeries>", "2 Angles and 1 Dose"),
        ("bad.xml", "<TiltSeries><Angles>1\n2</Angles><UseTilt>True\nmaybe</UseTilt></TiltSeries>", "UseTilt"),
        ("bad.mdoc", "", "no section [ZValue = 0]"),
        ("bad.mdoc", "[ZValue = 0]\nTiltAngle = up\n", "cannot be read as .mdoc"),
        ("bad.mdoc", "[ZValue = 0]\nDefocus = 3\n", "no TiltAngle in section 0"),
        ("bad.aln", "# SEC\n 1 2 3\n", "cannot be read as AreTomo"),
        ("bad.aln", "# AreTomo Alignment\n", "it has no line # SEC ROT ... TILT"),
        ("bad.xf", "1 0 0\n", "expected six numbers"),
        ("bad.xf", "", "is empty"),
        ("bad.star", "no star file\n", "no data block"),
        ("bad.star", "data_\n\nloop_\n_rlnTomoYTilt #1\nup\n-3\n", "expected a number"),
    ],
)
def test_what_is_no_tilt_series_is_refused_with_its_name(tmp_path, name, text, words):
    path = tmp_path / name
    path.write_text(text)
    (tmp_path / "bad.tlt").write_text(text if name == "bad.tlt" else "")
    with pytest.raises(InputError) as caught:
        read_tilts(path)
    line = str(caught.value)
    assert line.startswith(str(path))
    # The name of the file holds words of its format.
    assert words in line.removeprefix(str(path))
    assert "\n" not in line


def test_missing_and_binary_and_huge_files(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_tilts(tmp_path / "no.tlt")
    (tmp_path / "volume.tlt").write_bytes(bytes(range(256)) * 4)
    with pytest.raises(InputError, match="no text file"):
        read_tilts(tmp_path / "volume.tlt")
    with (tmp_path / "huge.tlt").open("wb") as file:
        file.truncate(10**9)
    with pytest.raises(InputError, match="954 MB"):
        read_tilts(tmp_path / "huge.tlt")


def test_bench_files(shared):
    assert (read_tilts(shared / "bench/dense_b.tlt").lowest, read_tilts(shared / "bench/dense_b.tlt").highest) == (-45, 63)
    assert len(read_tilts(shared / "star/cryoetalignment_test.rawtlt").angles) == 3


TILTS_IN = {
    "cryocat_017.mdoc": 60, "cryocat_017.tlt": 60, "cryocat_017_gctf.star": 60, "cryocat_dc02t01_ctf.star": 47,
    "cryoetalignment_test.aln": 4, "cryoetalignment_test.rawtlt": 3, "cryoetalignment_test.xf": 3,
    "cylindra_relion5_13pf_MT.star": 5, "mdocfile_tilt_series.mdoc": 41, "relion5_220728_TS_01.star": 41,
}  # fmt: skip


def test_every_shared_file_is_a_tilt_series_or_refused_in_one_line(shared):
    """Beside the ten that hold tilts, each is refused for the reason that fits it."""
    for path in sorted((shared / "star").iterdir()):
        if path.name in TILTS_IN:
            geometry = read_tilts(path)
            assert len(geometry.angles) == TILTS_IN[path.name], path.name
            assert -70 < geometry.lowest < geometry.highest < 70
            continue
        with pytest.raises(InputError) as caught:
            read_tilts(path)
        line = str(caught.value)
        reasons = ("has no tilts", "is a table of tomograms", "several tomograms", "one angle in degrees a line")
        assert any(reason in line for reason in reasons), line
        assert path.name in line
        assert "\n" not in line
