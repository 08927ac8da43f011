"""What the form of the Restore widget comes to: words of the command, regions, and refusals. No window is needed."""

import json
from types import SimpleNamespace

import mrcfile
import numpy as np
import pytest

from cryovae.errors import InputError
from cryovae.napari_plugin.layers import layer_for
from cryovae.napari_plugin.notices import MEMORY
from cryovae.napari_plugin.restore_job import Job, State
from cryovae.napari_plugin.restore_model import (
    Request,
    arguments_of,
    box_between,
    checked,
    halves_among,
    is_volume,
    limits_of,
)
from tests.conftest import write_mrc

SHAPE = (24, 40, 32)


class Image(SimpleNamespace):
    """What napari's image layer has of the same names."""


def layer(role="input", name="ts_01", path=None, shape=SHAPE, tilts=(-57.0, 0.0, 60.0), size=10.0):
    density = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    data, options, _ = layer_for(density, role, name, size, path=path, tilts=tilts)
    return Image(data=data, ndim=data.ndim, **options)


def test_volumes_and_halves_are_found():
    one, two, mean = layer("half1"), layer("half2"), layer("mean")
    assert is_volume(one)
    assert not is_volume(mean)
    assert not is_volume(SimpleNamespace(ndim=3, metadata={}))
    assert halves_among([two, mean, one]) == (one, two)
    assert halves_among([one, mean]) is None
    assert limits_of(one) == (-57.0, 60.0)
    assert limits_of(layer(tilts=None)) is None


def test_words_are_those_of_a_shell(tmp_path):
    path = write_mrc(tmp_path / "ts_01.mrc", np.zeros(SHAPE, np.float32))
    given = layer(path=path)
    words = arguments_of(Request((given,), tmp_path / "out", steps=7, settings="a.b=[1, 2] c=3".replace(", ", ",")))
    assert words[:2] == ["restore", str(path)]
    assert words[words.index("--tilt-range") + 1 :][:2] == ["-60", "60"]
    assert words[-5:] == ["--set", "a.b=[1,2]", "--set", "c=3", "--overwrite"]
    assert "--live" in words
    assert not (tmp_path / "out").exists()
    halves = layer("half1", path=path), layer("half2", path=path)
    words = arguments_of(Request(halves, tmp_path / "out", tilts=tmp_path / "a.tlt", model=tmp_path / "m"), resume=True)
    assert words[1:5] == ["--half1", str(path), "--half2", str(path)]
    assert words[words.index("--tilts") + 1] == str(tmp_path / "a.tlt")
    assert words[words.index("--model") + 1] == str(tmp_path / "m")
    assert "--live" not in words
    assert words[-1] == "--resume"


def test_a_region_and_layers_without_files_are_written(tmp_path):
    path = write_mrc(tmp_path / "ts_01.mrc", np.zeros(SHAPE, np.float32), 7.5)
    given = layer(path=path, size=7.5)
    box = (slice(2, 22), slice(0, 30), slice(5, 25))
    words = arguments_of(Request((given,), tmp_path / "out", box=box))
    with mrcfile.open(words[1]) as file:
        assert np.array_equal(file.data, given.data[box])
        assert file.voxel_size.x == pytest.approx(7.5)
    halves = layer("half1", "a_half1"), layer("half2", "a_half2")
    words = arguments_of(Request(halves, tmp_path / "out"))
    assert [word.rsplit("/", 1)[-1] for word in (words[2], words[4])] == ["a_half1.mrc", "a_half2.mrc"]
    assert np.array_equal(mrcfile.read(words[4]), halves[1].data)


@pytest.mark.parametrize(
    ("corners", "middle", "expected"),
    [
        (((3, 4), (23, 30)), 12, ((7, 17), (3, 23), (4, 30))),
        (((23, 30), (3, 4)), 12, ((7, 17), (3, 23), (4, 30))),
        (((-50, -9), (900, 2)), 1, ((0, 10), (0, 40), (0, 10))),
        (((38, 31), (39, 32)), 99, ((14, 24), (30, 40), (22, 32))),
    ],
)
def test_a_box_lies_in_the_volume_and_holds_a_patch(corners, middle, expected):
    found = box_between(corners, SHAPE, middle, 10, 10)
    assert tuple((part.start, part.stop) for part in found) == expected


def test_a_volume_smaller_than_a_patch_has_no_box():
    with pytest.raises(InputError, match="24 x 40 x 32 voxels found, expected 30"):
        box_between(((0, 0), (9, 9)), SHAPE, 3, 10, 30)


def test_what_cannot_be_begun_is_refused_in_one_line(tmp_path):
    out, given, other = tmp_path / "out", layer(), layer(shape=(24, 40, 30))
    run = tmp_path / "run"
    run.mkdir()
    volume = write_mrc(tmp_path / "a.mrc", np.zeros(SHAPE, np.float32), 20.0)
    record = {"name": "a", "directory": str(tmp_path), "inputs": {"tomogram": {"path": str(volume)}}}
    (run / "run.json").write_text(json.dumps(record))
    refused = {
        "no layer chosen": Request((None,), out),
        "expected one shape": Request((given, other), out),
        "the same layer": Request((given, given), out),
        "no.tlt does not exist": Request((given,), out, tilts=tmp_path / "no.tlt"),
        "lower one first": Request((given,), out, limits=(60.0, -60.0)),
        "nowhere does not exist": Request((given,), out, model=tmp_path / "nowhere"),
        "trained at 20 angstrom a voxel, the layer has 10": Request((given,), out, model=run),
    }
    for words, request in refused.items():
        with pytest.raises(InputError, match=words) as error:
            checked(request)
        assert "\n" not in str(error.value)
    same = Request((layer(size=20.0),), out, model=run)
    assert checked(same) is same
    assert not out.exists()


@pytest.mark.parametrize(
    ("code", "lines", "stopping", "words"),
    [
        (0, "", False, None),
        (75, "cryovae: stopped", False, None),
        (-15, "", True, None),
        (2, "12:00:00 training 3/9  ETA 0:00:01\ncryovae: a.tlt holds no angles\n", False, "a.tlt holds no angles"),
        (-9, "", False, MEMORY),
        (1, "Traceback\nRuntimeError: DefaultCPUAllocator: not enough memory\n", False, MEMORY),
        (1, "Traceback\nValueError: nine\n", False, "ValueError: nine"),
    ],
)
def test_an_end_is_told_in_one_line(tmp_path, monkeypatch, code, lines, stopping, words):
    job = Job([], tmp_path)
    job.stopping = stopping
    (tmp_path / "window.log").write_text(lines)
    monkeypatch.setattr(Job, "ended", code)
    found = job.complaint()
    assert found is None if words is None else words in found


def test_progress_is_read_from_what_the_run_says(tmp_path):
    job = Job([], tmp_path)
    assert job.state() == State()
    said = "12:00:01 training 30/240 log_likelihood 0.1  ETA 0:03:10\n12:00:09 restoring, tiles 4/96  ETA 0:00:20\nnoise\n"
    (tmp_path / "window.log").write_text(said)
    assert job.state() == State("restoring", 4, 96, "0:00:20")
    (tmp_path / "metrics.csv").write_text("step,completion,val_gain\n10,0.5,\n20,0.4,0.1\n")
    assert job.losses() == {"completion": [(10, 0.5), (20, 0.4)], "held-out gain": [(20, 0.1)]}
    (tmp_path / "metrics.csv").write_text("step,loss\n10,0.7\n")
    assert job.losses() == {"loss": [(10, 0.7)]}
