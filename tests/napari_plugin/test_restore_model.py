"""The form of the Restore widget as a command: its arguments, regions, and errors. No window is needed."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import mrcfile
import numpy as np
import pytest
import torch

from cryovae import fourier
from cryovae.config import override, preset
from cryovae.errors import InputError
from cryovae.evaluation.region import Box
from cryovae.io.orientation import upright
from cryovae.napari_plugin.layers import KEY, layer_for
from cryovae.napari_plugin.notices import MEMORY
from cryovae.napari_plugin.regions import box_within
from cryovae.napari_plugin.restore_estimate import Estimate, estimate, seconds_of
from cryovae.napari_plugin.restore_job import Job, State
from cryovae.napari_plugin.restore_model import (
    Request,
    arguments_of,
    checked,
    halves_among,
    holds_results,
    is_volume,
    limits_of,
    next_folder,
    tomograms_among,
)
from cryovae.napari_plugin.restore_wedge import check_wedge
from cryovae.physics.wedge import volume_mask
from cryovae.progress.costs import Work
from cryovae.tomogram import TiltGeometry
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


RANGE = {"tilt_range": (-60.0, 60.0)}


def test_words_are_those_of_a_shell(tmp_path):
    path = write_mrc(tmp_path / "ts_01.mrc", np.zeros(SHAPE, np.float32))
    volume = layer(path=path)
    options = RANGE | {"steps": 7, "samples": 8, "settings": ["a.b=[1,2]", "c=3"]}
    request = Request((volume,), tmp_path / "out", options | {"settings": ["training.ema=0.9"]})
    words = arguments_of(request)
    assert words[:2] == ["restore", str(path)]
    assert words[words.index("--tilt-range") + 1 :][:2] == ["-60", "60"]
    assert words[words.index("--set") :][:2] == ["--set", "training.ema=0.9"]
    assert words[words.index("--samples-out") + 1] == "8"
    assert "--live" in words
    assert not {"--overwrite", "--resume"} & set(words)
    assert not (tmp_path / "out").exists()
    assert arguments_of(request, overwrite=True)[-1] == "--overwrite"
    halves = layer("half1", path=path), layer("half2", path=path)
    with_files = {"tilts": [tmp_path / "a.tlt"], "model": tmp_path / "m"}
    words = arguments_of(Request(halves, tmp_path / "out", with_files), resume=True)
    assert words[1:5] == ["--half1", str(path), "--half2", str(path)]
    assert words[words.index("--tilts") + 1] == str(tmp_path / "a.tlt")
    assert words[words.index("--model") + 1] == str(tmp_path / "m")
    assert "--live" not in words
    assert words[-1] == "--resume"


@pytest.mark.parametrize(
    ("options", "kept"),
    [({}, "8"), ({"samples": 4}, "4"), ({"samples_out": 2}, "2"), ({"objective": "isonet2"}, None), ({"outputs": "std"}, None)],
)
def test_samples_are_kept_for_the_window_where_there_are_any(tmp_path, options, kept):
    words = arguments_of(
        Request((layer(path=write_mrc(tmp_path / "a.mrc", np.zeros(SHAPE, "f4"))),), tmp_path / "out", RANGE | options)
    )
    assert (words[words.index("--samples-out") + 1] if "--samples-out" in words else "0") == (kept or "0")


def test_the_mask_of_a_rotated_layer_is_rotated_too(tmp_path):
    shape = (24, 24, 32)
    mask = np.random.default_rng(1).integers(0, 2, shape).astype(np.float32)
    path, box, volume = write_mrc(tmp_path / "mask.mrc", mask), Box((2, 0, 5), (22, 20, 25)), layer(shape=shape)
    volume.metadata[KEY]["rotated"] = True
    words = arguments_of(Request((volume,), tmp_path / "out", RANGE | {"mask": [path]}, box=box))
    assert np.array_equal(mrcfile.read(words[words.index("--mask") + 1]), upright(mask)[box.slices])


def test_of_the_mean_of_two_halves_both_are_restored_and_not_the_first_alone(tmp_path):
    paths = [write_mrc(tmp_path / f"ts_half{i}.mrc", np.zeros(SHAPE, np.float32)) for i in (1, 2)]
    volume = layer(path=paths[0])
    volume.metadata[KEY]["halves"] = [str(path) for path in paths]
    assert arguments_of(Request((volume,), tmp_path / "out", RANGE))[1:5] == ["--half1", str(paths[0]), "--half2", str(paths[1])]
    paths[1].unlink()
    words = arguments_of(Request((volume,), tmp_path / "out", RANGE))
    assert words[1] != str(paths[0])
    np.testing.assert_array_equal(mrcfile.read(words[1]), volume.data)


def test_a_mask_is_cut_with_its_region(tmp_path):
    mask = np.random.default_rng(1).integers(0, 2, SHAPE).astype(np.float32)
    path, box = write_mrc(tmp_path / "mask.mrc", mask), Box((2, 0, 5), (22, 30, 25))
    words = arguments_of(Request((layer(),), tmp_path / "out", RANGE | {"mask": [path]}, box=box))
    assert np.array_equal(mrcfile.read(words[words.index("--mask") + 1]), mask[box.slices])
    other = write_mrc(tmp_path / "other.mrc", mask[1:])
    with pytest.raises(InputError, match="23 x 40 x 32 voxels, expected 24 x 40 x 32"):
        arguments_of(Request((layer(),), tmp_path / "out", RANGE | {"mask": [other]}, box=box))


def test_a_table_takes_the_place_of_layers(tmp_path):
    table = tmp_path / "t.star"
    table.write_text("data_\n")
    request = Request((), tmp_path / "out", RANGE, table=table)
    assert checked(request) is request
    assert arguments_of(request)[:2] == ["restore", str(table)]
    with pytest.raises(InputError, match="expected a STAR table"):
        checked(Request((), tmp_path / "out", RANGE, table=tmp_path / "none.star"))


def test_folders_are_numbered_and_results_are_left(tmp_path):
    out = tmp_path / "restored"
    assert next_folder(out) == out
    (out / "inputs").mkdir(parents=True)
    (out / "window.log").touch()
    assert not holds_results(out)
    assert next_folder(out) == out
    (out / "run.json").touch()
    assert holds_results(out)
    assert next_folder(out) == tmp_path / "restored_2"
    (tmp_path / "restored_2").mkdir()
    (tmp_path / "restored_2" / "a.mrc").touch()
    assert next_folder(out, [tmp_path / "restored_3"]) == tmp_path / "restored_4"
    assert next_folder(tmp_path / "restored_2") == tmp_path / "restored_3"


def test_the_estimate_is_that_of_the_plan(monkeypatch):
    """562 processor seconds of the sample, measured, and what more steps, voxels and less work make of it."""
    monkeypatch.setattr("cryovae.napari_plugin.restore_estimate.machine", lambda: 1.0)
    few, shape = override(preset("quick"), {"training.steps": 240, "restoration.samples": 8}), (64, 80, 72)
    work = Work([shape], True, few, 240, fits=True)
    spent = seconds_of(work)
    assert sum(spent.values()) == pytest.approx(562, rel=0.4)
    assert seconds_of(replace(work, steps=480))["training"] > 1.7 * spent["training"]
    at_once = seconds_of(replace(work, steps=0, fits=False))
    assert at_once == spent | {"training": 0.0, "sampler": 0.0}
    assert seconds_of(replace(work, shapes=[(128, 160, 144)]))["restoring"] > 6 * spent["restoring"]
    fast = override(few, {"restoration.sampler": "amortised"})
    assert seconds_of(replace(work, config=fast))["sampler"] == 0


def test_an_estimate_names_time_and_memory(tmp_path):
    request = Request((layer(),), tmp_path, RANGE | {"preset": "quick", "memory": "1MB"})
    words = estimate(request).words()
    assert words.startswith("Time: about")
    assert "within a factor of two" in words
    assert "read from disk in parts" in words
    assert "no estimate for a GPU" in Estimate({}, 1e9, 2e9).words()


def test_all_tomograms_of_a_viewer_are_pairs_and_single_ones():
    one, two, other, alone = layer("half1", "a_half1"), layer("half2", "a_half2"), layer(name="b"), layer("half2", "c_half2")
    assert tomograms_among([one, other, two, alone]) == [(one, two), (other,), (alone,)]


def test_a_region_and_layers_without_files_are_written(tmp_path):
    path = write_mrc(tmp_path / "ts_01.mrc", np.zeros(SHAPE, np.float32), 7.5)
    volume = layer(path=path, size=7.5)
    box = Box((2, 0, 5), (22, 30, 25))
    words = arguments_of(Request((volume,), tmp_path / "out", RANGE, box=box))
    with mrcfile.open(words[1]) as file:
        assert np.array_equal(file.data, volume.data[box.slices])
        assert file.voxel_size.x == pytest.approx(7.5)
    halves = layer("half1", "a_half1"), layer("half2", "a_half2")
    words = arguments_of(Request(halves, tmp_path / "out", RANGE))
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
        "no.tlt does not exist": Request((volume,), out, {"tilts": [tmp_path / "no.tlt"]}),
        "no tilt angles given": Request((volume,), out),
        "nowhere does not exist": Request((volume,), out, RANGE | {"model": tmp_path / "nowhere"}),
        "7 samples found": Request((volume,), out, RANGE | {"samples": 7, "samples_out": 2}),
        "unknown key": Request((volume,), out, RANGE | {"settings": ["training.step=9"]}),
        "trained at 20 angstrom a voxel, the layer has 10": Request((volume,), out, RANGE | {"model": run}),
        "expected one of them": Request((volume,), out, RANGE | {"model": run, "start": "base"}),
        "--handedness 2 found": Request((volume,), out, RANGE | {"handedness": 2}),
        "--device gpu found": Request((volume,), out, RANGE | {"device": "gpu"}),
        "--memory much found": Request((volume,), out, RANGE | {"memory": "much"}),
        "mask.mrc does not exist": Request((volume,), out, RANGE | {"mask": [tmp_path / "mask.mrc"]}),
    }
    for words, request in refused.items():
        with pytest.raises(InputError, match=words) as error:
            checked(request)
        assert "\n" not in str(error.value)
    same = Request((layer(size=20.0),), out, RANGE | {"model": run})
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


def test_settings_are_those_of_the_preset_with_what_the_form_says():
    settings = ["training.batch=5", "training.patch=48"]
    config = Request((), Path("out"), {"preset": "quick", "steps": 7, "settings": settings}).config("default")
    assert (config.training.steps, config.training.batch, config.training.patch) == (7, 5, 48)
    assert config.restoration.samples == 8


@pytest.mark.parametrize(("handedness", "words"), [(1, "agree"), (-1, "set Handedness to 1")])
def test_the_wedge_of_the_file_is_compared_with_that_of_the_form(tmp_path, handedness, words):
    tilts = TiltGeometry.from_range(-42, 66)
    noise = torch.from_numpy(np.random.default_rng(0).normal(size=(64, 80, 72)).astype("f4"))
    density = fourier.filtered(noise, volume_mask(noise.shape, tilts))
    options = {"tilt_range": (-42.0, 66.0), "handedness": handedness}
    image = Image(data=density.numpy(), ndim=3, name="a", metadata={}, scale=(10.0,) * 3)
    check = check_wedge(Request((image,), tmp_path, options))
    assert words in " ".join(check.words)
    assert check.agrees == (handedness == 1)
    assert check.power.shape == (64, 72)
    assert check.tilts.lowest == (-42 if handedness == 1 else -66)
