"""Picked particles are read with their places in angstrom, from each kind of table; what is none is refused in one line."""

import json

import numpy as np
import pytest

from cryovae.errors import InputError
from cryovae.io.picks import read_picks
from cryovae.io.positions import write_positions

SHAPE = (20, 40, 30)


def star(path, columns, rows, optics=""):
    table = "".join(f"_{name} #{i + 1}\n" for i, name in enumerate(columns)) + "\n".join(rows)
    path.write_text(f"{optics}\ndata_particles\n\nloop_\n{table}\n")
    return path


def test_what_cryovae_writes_is_read_back(tmp_path):
    from scipy.spatial.transform import Rotation

    places = np.array([[3.0, 10.0, 20.0], [7.5, 31.25, 2.0]])
    path = tmp_path / "t.star"
    write_positions(path, "ts", ["a", "b"], places, Rotation.from_euler("z", [[0], [10]], degrees=True), SHAPE, 8.0)
    picks = read_picks(path, SHAPE, 8.0)
    assert np.allclose(picks.positions, places * 8.0, atol=0.02)
    assert picks.names == ("a", "b")
    assert "from the middle" in picks.how


def test_pixels_are_those_that_the_table_names(tmp_path):
    xyz = ["rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ"]
    plain = star(tmp_path / "a.star", xyz, ["1 2 3", "4 5 6"])
    assert np.allclose(read_picks(plain, SHAPE, 10.0).positions, [[30, 20, 10], [60, 50, 40]])
    assert "names no pixel size" in read_picks(plain, SHAPE, 10.0).how
    optics = "data_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnTomoTiltSeriesPixelSize #2\n1 2.5\n"
    named = star(tmp_path / "b.star", [*xyz, "rlnOriginXAngst", "rlnOriginYAngst", "rlnOriginZAngst"], ["1 2 3 0 0 -1"], optics)
    assert np.allclose(read_picks(named, SHAPE, 10.0).positions, [[8.5, 5.0, 2.5]])
    assert "2.5 Å, by rlnTomoTiltSeriesPixelSize" in read_picks(named, SHAPE, 10.0).how


def test_the_rows_are_those_of_the_tomogram(tmp_path):
    columns = ["rlnTomoName", "rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ"]
    path = star(tmp_path / "a.star", columns, ["ts_1.tomostar 1 2 3", "ts_2.tomostar 4 5 6", "ts_1.tomostar 7 8 9"])
    assert len(read_picks(path, SHAPE, 10.0, "ts_1").positions) == 2
    with pytest.raises(InputError, match="particles of ts_1, ts_2"):
        read_picks(path, SHAPE, 10.0, "ts_9")
    one = star(tmp_path / "b.star", columns, ["another.tomostar 1 2 3"])
    assert len(read_picks(one, SHAPE, 10.0, "ts_1").positions) == 1


def test_picks_of_copick_are_in_angstrom(tmp_path):
    path = tmp_path / "picks.json"
    points = [{"location": {"x": 1.0, "y": 2.0, "z": 3.0}}, {"location": {"x": 4, "y": 5, "z": 6}}]
    path.write_text(json.dumps({"pickable_object_name": "ribosome", "unit": "angstrom", "points": points}))
    picks = read_picks(path, SHAPE, 10.0)
    assert np.allclose(picks.positions, [[3, 2, 1], [6, 5, 4]])
    assert picks.names == ("ribosome", "ribosome")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.json", "[1, 2]", "no points of copick"),
        ("a.json", '{"points": [{"location": {"x": 1}}]}', "no points of copick"),
        ("a.json", '{"unit": "pixel", "points": []}', "points in pixel"),
        ("a.star", "data_x\n\nloop_\n_rlnImageName #1\nb.mrc\n", "no rlnCoordinateX"),
        ("a.star", "data_x\n\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n_rlnCoordinateZ #3\n1 2 x\n", "expected a number"),
    ],
)
def test_what_is_no_list_of_particles_is_refused(tmp_path, name, content, words):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(InputError, match=words) as error:
        read_picks(path, SHAPE, 10.0)
    assert "\n" not in str(error.value)
