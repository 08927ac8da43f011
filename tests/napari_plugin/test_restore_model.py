"""The form of the Restore widget as a command: its arguments, regions, and errors. No window is needed."""

import json
from types import SimpleNamespace

import mrcfile
import numpy as np
import pytest

from cryovae.errors import InputError
from cryovae.evaluation.region import Box
from cryovae.napari_plugin.layers import layer_for
from cryovae.napari_plugin.notices import MEMORY
from cryovae.napari_plugin.regions import box_within
from cryovae.napari_plugin.restore_job import Job, State
from cryovae.napari_plugin.restore_model import (
    Request,
    arguments_of,
    checked,
    config_of,
    describe,
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


def test_volumes_and_halves_are_recognised():
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
    volume = layer(path=path)
    settings = {"training.steps": 7, "restoration.samples": 8}
    words = arguments_of(Request((volume,), tmp_path / "out", settings=settings, more="a.b=[1,2] c=3"))
    assert words[:2] == ["restore", str(path)]
    assert words[words.index("--tilt-range") + 1 :][:2] == ["-60", "60"]
    assert words[-7:] == ["--set", "training.steps=7", "--set", "a.b=[1,2]", "--set", "c=3", "--overwrite"]
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
    volume = layer(path=path, size=7.5)
    box = Box((2, 0, 5), (22, 30, 25))
    words = arguments_of(Request((volume,), tmp_path / "out", box=box))
    with mrcfile.open(words[1]) as file:
        assert np.array_equal(file.data, volume.data[box.slices])
        assert file.voxel_size.x == pytest.approx(7.5)
    halves = layer("half1", "a_half1"), layer("half2", "a_half2")
    words = arguments_of(Request(halves, tmp_path / "out"))
    assert [word.rsplit("/", 1)[-1] for word in (words[2], words[4])] == ["a_half1.mrc", "a_half2.mrc"]
    assert np.array_equal(mrcfile.read(words[4]), halves[1].data)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        ((7, 3, 4), (17, 23, 30), ((7, 17), (3, 23), (4, 30))),
        ((17, 23, 4), (7, 3, 30), ((7, 17), (3, 23), (4, 30))),
        ((-4, -50, -9), (6, 900, 2), ((0, 10), (0, 40), (0, 10))),
        ((94, 38, 31), (104, 39, 32), ((14, 24), (30, 40), (22, 32))),
    ],
)
def test_a_box_lies_in_the_volume_and_holds_a_patch(low, high, expected):
    box = box_within(low, high, SHAPE, 10)
    assert tuple(zip(box.start, box.stop, strict=True)) == expected


def test_a_volume_smaller_than_a_patch_has_no_box():
    with pytest.raises(InputError, match="24 x 40 x 32 voxels found, expected at least 30"):
        box_within((0, 0, 0), (9, 9, 9), SHAPE, 30)


def test_what_cannot_be_begun_is_refused_in_one_line(tmp_path):
    out, volume, other = tmp_path / "out", layer(), layer(shape=(24, 40, 30))
    run = tmp_path / "run"
    run.mkdir()
    file = write_mrc(tmp_path / "a.mrc", np.zeros(SHAPE, np.float32), 20.0)
    record = {"name": "a", "directory": str(tmp_path), "inputs": {"tomogram": {"path": str(file)}}}
    (run / "run.json").write_text(json.dumps(record))
    refused = {
        "no layer chosen": Request((None,), out),
        "expected one shape": Request((volume, other), out),
        "the same layer": Request((volume, volume), out),
        "no.tlt does not exist": Request((volume,), out, tilts=tmp_path / "no.tlt"),
        "lower one first": Request((volume,), out, limits=(60.0, -60.0)),
        "nowhere does not exist": Request((volume,), out, model=tmp_path / "nowhere"),
        "7 samples found": Request((volume,), out, settings={"restoration.samples": 7, "restoration.samples_out": 2}),
        "unknown key": Request((volume,), out, more="training.step=9"),
        "trained at 20 angstrom a voxel, the layer has 10": Request((volume,), out, model=run),
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
def test_an_error_of_the_run_is_one_line(tmp_path, monkeypatch, code, lines, stopping, words):
    job = Job([], tmp_path)
    job.stopping = stopping
    (tmp_path / "window.log").write_text(lines)
    monkeypatch.setattr(Job, "ended", code)
    error = job.error()
    assert error is None if words is None else words in error


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


def test_settings_and_their_descriptions_come_from_the_run_config():
    assert describe("training.steps").startswith("training.steps: ")
    assert "kept" in describe("restoration.samples_out")
    config = config_of("quick", {"training.steps": 7, "training.batch": 3}, "training.batch=5 training.patch=48")
    assert (config.training.steps, config.training.batch, config.training.patch) == (7, 5, 48)
    assert config.restoration.samples == 8
