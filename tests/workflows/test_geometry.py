"""Geometry from the command line to run.json and back, and what info says of it."""

import json
from dataclasses import replace

import numpy as np
import pytest

from cryovae.errors import InputError
from cryovae.io.files import read_volume
from cryovae.io.geometry_record import geometry_of, recorded
from cryovae.io.orientation import as_stored
from cryovae.io.star.loading import load_entry
from cryovae.tomogram import TiltGeometry
from cryovae.workflows.evaluate import find
from cryovae.workflows.geometry import GeometryOptions, TiltAdjustment
from cryovae.workflows.optics import OpticsOptions
from cryovae.workflows.table import open_table
from tests.conftest import write_mrc
from tests.helpers.cli import TINY, cryovae, refused

PLAIN = TiltGeometry((-40.0, 0.0, 50.0))
pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.mark.parametrize(
    "tilts",
    [
        PLAIN,
        replace(PLAIN, axis_angle=3.5, x_tilt=-2.0, thickness=120.0, weights=(1.0, 2.0, 0.5)),
        replace(PLAIN, second=TiltGeometry((-60.0, 55.0), axis_angle=90.0, weights=(1.0, 0.2))),
        replace(PLAIN, conical=True),
    ],
    ids=["plain", "one axis", "two axes", "cone"],
)
def test_a_geometry_survives_the_record(tilts):
    assert geometry_of(json.loads(json.dumps(recorded(tilts)))) == tilts


def test_records_of_earlier_versions_are_read():
    assert geometry_of({"lowest": -60, "highest": 60}) == TiltGeometry((-60.0, 60.0))


def test_options_go_over_the_tilts_that_were_read():
    assert TiltAdjustment()(PLAIN) == PLAIN
    adjusted = TiltAdjustment(axis_angle=4.0, pretilt=10.0, x_tilt=1.0, thickness=90.0, handedness=-1)(PLAIN)
    assert adjusted.angles == (30.0, -10.0, -60.0)
    assert (adjusted.axis_angle, adjusted.x_tilt, adjusted.thickness) == (4.0, 1.0, 90.0)
    assert TiltAdjustment(cone=True)(PLAIN).conical
    with pytest.raises(InputError, match="handedness 2 found"):
        TiltAdjustment(handedness=2)
    with pytest.raises(InputError, match="within -90 to 90"):
        TiltAdjustment(pretilt=60.0)(PLAIN)


def test_the_second_axis_is_at_right_angles_to_the_first(tmp_path):
    (tmp_path / "b.tlt").write_text("-30\n0\n45\n")
    second, adjustment = tmp_path / "b.tlt", TiltAdjustment(axis_angle=-5.0, pretilt=8.0)
    first, again = GeometryOptions(tilt_range=(-40.0, 50.0), tilts2=[second], adjustment=adjustment).geometries(2)
    assert first == again
    assert (first.axis_angle, first.second.axis_angle) == (-5.0, 85.0)
    assert first.lowest == -32
    assert first.second.angles == (-30.0, 0.0, 45.0)
    with pytest.raises(InputError, match="2 --tilts2 files found for 3"):
        GeometryOptions(tilt_range=(-40.0, 50.0), tilts2=[second] * 2).geometries(3)
    with pytest.raises(InputError, match="2 --mask files found for 3"):
        GeometryOptions(mask=[tmp_path / "m.mrc"] * 2).masks(3)


def test_rows_of_a_table_take_masks_and_options_and_lie_as_they_lie(tmp_path, simulation):
    density = simulation.half1.numpy()[8:32]
    mask = np.zeros(density.shape, dtype=np.float32)
    mask[:, :30] = 1
    write_mrc(tmp_path / "level.mrc", density)
    write_mrc(tmp_path / "lying.mrc", as_stored(density))
    write_mrc(tmp_path / "mask.mrc", as_stored(mask))
    path = tmp_path / "tomograms.star"
    columns = ("rlnMicrographName", "rlnTiltMin", "rlnTiltMax", "rlnMaskName")
    head = ["data_", "", "loop_", *(f"_{name} #{i}" for i, name in enumerate(columns, 1))]
    path.write_text("\n".join([*head, "level.mrc -50 60 None", "lying.mrc -50 60 mask.mrc"]) + "\n")
    options = GeometryOptions(adjustment=TiltAdjustment(handedness=-1, thickness=24.0))
    table = open_table(path, options, OpticsOptions())
    level, unrotated = (load_entry(entry) for entry in table.entries)
    assert (level.tilts.lowest, level.tilts.highest, unrotated.tilts.thickness) == (-60, 50, 24)
    assert (level.unrotated, unrotated.unrotated) == (False, True)
    assert level.mask is None
    assert np.array_equal(unrotated.density, level.density)
    assert np.array_equal(unrotated.mask, mask > 0)
    with pytest.raises(InputError, match="rlnMaskName"):
        open_table(path, GeometryOptions(mask=[tmp_path / "mask.mrc"]), OpticsOptions())
    write_mrc(tmp_path / "mask.mrc", mask)
    with pytest.raises(InputError, match="row 2 has a mask of shape"):
        open_table(path, GeometryOptions(), OpticsOptions())


def test_info_shows_what_is_seen_beside_what_is_given_and_warns(shared):
    path = shared / "bench/dense_b_half1.mrc"
    right = cryovae("info", path, "--tilt-range", -63, 45, "--handedness", -1)
    assert right.returncode == 0, right.stderr
    assert "wedge given   tilts from -45 to 63 degrees" in right.stdout
    assert "warning" not in right.stdout
    wrong = cryovae("info", path, "--tilt-range", -63, 45)
    assert "pass --handedness -1" in wrong.stdout


def test_a_mask_is_made_and_is_not_written_over(tmp_path):
    density = np.random.default_rng(0).normal(size=(20, 30, 26)).astype(np.float32)
    path = write_mrc(tmp_path / "ts.mrc", density)
    made = cryovae("mask", path, "-o", tmp_path / "mask.mrc", "--z-crop", 0.2)
    assert made.returncode == 0, made.stderr
    mask = read_volume(tmp_path / "mask.mrc").density
    assert mask.shape == density.shape
    assert set(np.unique(mask)) == {0, 1}
    assert not mask[:2].any()
    refused(cryovae("mask", path, "-o", tmp_path / "mask.mrc"), "is there already", "--overwrite")
    refused(cryovae("mask", path, "-o", tmp_path / "other.mrc", "--density-percentage", 0), "0 % by density")


def test_an_unrotated_masked_dual_axis_tomogram_keeps_its_orientation(tmp_path, simulation):
    """Thin, lying as IMOD's tilt writes it, with every option of geometry: run.json holds all that evaluate needs."""
    half1, half2 = (h.numpy()[8:28] for h in (simulation.half1, simulation.half2))
    files = [write_mrc(tmp_path / f"ts_{n}.mrc", as_stored(h)) for n, h in (("EVN", half1), ("ODD", half2))]
    mask = np.zeros(half1.shape, dtype=np.float32)
    mask[:, 10:, :] = 1
    (tmp_path / "b.tlt").write_text("\n".join(str(a) for a in range(-55, 51, 5)))
    out = tmp_path / "out"
    done = cryovae(
        "restore", "--half1", files[0], "--half2", files[1], "--tilt-range", -60, 60, "--tilts2", tmp_path / "b.tlt",
        "--pretilt", 2, "--axis-angle", 3, "--thickness", 20, "--mask", write_mrc(tmp_path / "mask.mrc", as_stored(mask)),
        "--unrotated", "-o", out, "--steps", 2, *TINY,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    restored = out / "ts_mean.mrc"
    assert read_volume(restored).density.shape == as_stored(half1).shape
    about = find(restored)
    assert about.density.shape == half1.shape
    assert about.tilts.angles == (-58.0, 62.0)
    assert (about.tilts.axis_angle, about.tilts.second.axis_angle, about.tilts.second.thickness) == (3.0, 93.0, 20.0)
    correlation = np.corrcoef(about.density.ravel(), ((half1 + half2) / 2).ravel())[0, 1]
    assert correlation > 0.5
    scored = cryovae("evaluate", restored, "--no-shells")
    assert scored.returncode == 0, scored.stderr
    assert "second axis" in (out / "report.html").read_text()
