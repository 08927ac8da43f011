"""What is opened and written, without a window."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from cryovae.errors import InputError
from cryovae.io.geometry_record import recorded
from cryovae.napari_plugin import samples
from cryovae.napari_plugin.contents import layer_of_file, layers_of_run, role_of
from cryovae.napari_plugin.layers import KEY
from cryovae.napari_plugin.reading import NOTHING, run_reader, volume_reader
from cryovae.napari_plugin.writing import voxel_size, write_image
from cryovae.tomogram import TiltGeometry
from tests.conftest import write_mrc

SHAPE = (6, 10, 8)


@pytest.fixture
def run(tmp_path) -> Path:
    """A run folder as restore leaves it, of two halves, with two samples."""
    rng = np.random.default_rng(0)
    halves = [write_mrc(tmp_path / f"ts_half{i}.mrc", rng.normal(size=SHAPE).astype("f4"), 7.0) for i in (1, 2)]
    folder = tmp_path / "run"
    folder.mkdir()
    for kind in ("mean", "std", "mean_half1", "sample_0", "sample_1", "sample_10"):
        write_mrc(folder / f"ts_{kind}.mrc", np.full(SHAPE, float(len(kind)), "f4") + rng.normal(size=SHAPE).astype("f4"), 7.0)
    record = {"name": "ts", "status": "done", "inputs": {f"half{i + 1}": {"path": str(h)} for i, h in enumerate(halves)}}
    (folder / "run.json").write_text(json.dumps(record | {"tilts": recorded(TiltGeometry.from_range(-60, 50))}))
    return folder


@pytest.mark.parametrize("suffix", [".mrc", ".rec", ".map", ".st", ".ali", ".REC"])
def test_volumes_of_every_name_are_read(tmp_path, suffix):
    density = np.random.default_rng(0).normal(size=SHAPE).astype("f4")
    path = write_mrc(tmp_path / f"ts_01{suffix}", density, 8.5)
    (tmp_path / "ts_01.tlt").write_text("-50\n0\n55\n")
    reader = volume_reader(str(path))
    [(data, options, kind)] = reader(str(path))
    assert kind == "image"
    assert np.array_equal(data, density)
    assert options["scale"] == (8.5, 8.5, 8.5)
    about = options["metadata"]["cryovae"]
    assert (about["role"], about["path"], about["tilts"]) == ("input", str(path), [-50.0, 0.0, 55.0])
    assert options["metadata"]["header"]["voxel_size"] == pytest.approx((8.5, 8.5, 8.5))


def test_halves_are_known_by_their_names():
    names = ["a_half1.mrc", "a_half2.rec", "b_EVN.mrc", "b_ODD.mrc", "c.mrc", "oddity.mrc"]
    assert [role_of(Path(name)) for name in names] == ["half1", "half2", "half1", "half2", "input", "input"]


def test_a_file_without_voxel_size_is_shown_and_says_so(tmp_path):
    _, options, _ = layer_of_file(write_mrc(tmp_path / "a.mrc", np.random.default_rng(0).normal(size=SHAPE).astype("f4"), 0.0))
    assert options["scale"] == (1.0, 1.0, 1.0)
    assert "no voxel size" in options["name"]


def test_other_files_are_left_to_other_readers(tmp_path):
    assert volume_reader(str(tmp_path / "a.tif")) is None
    assert volume_reader([str(tmp_path / "a.mrc"), str(tmp_path / "a.tif")]) is None
    assert run_reader(str(tmp_path)) is None


def test_a_damaged_file_is_one_notification_and_no_layer(tmp_path, shown):
    path = tmp_path / "a.mrc"
    path.write_bytes(b"not an MRC file" * 100)
    assert volume_reader(str(path))(str(path)) == NOTHING
    assert len(shown) == 1
    assert "a.mrc" in shown[0]


def test_a_run_comes_as_input_mean_std_and_samples(run):
    layers = layers_of_run(run)
    roles = [options["metadata"]["cryovae"]["role"] for _, options, _ in layers]
    assert roles == ["input", "mean", "std", "samples"]
    assert [options.get("visible", True) for _, options, _ in layers] == [True, True, False, False]
    data, options, _ = layers[3]
    assert data.shape == (3, *SHAPE)
    for number, index in enumerate((0, 1, 10)):
        assert np.array_equal(np.asarray(data[number]), mrcfile.read(run / f"ts_sample_{index}.mrc"))
    assert options["scale"] == (1.0, 7.0, 7.0, 7.0)
    halves = [mrcfile.read(run.parent / f"ts_half{i}.mrc") for i in (1, 2)]
    assert np.allclose(layers[0][0], (halves[0] + halves[1]) / 2)
    assert layers[1][1]["metadata"]["cryovae"]["tilts"] == [-60.0, 50.0]
    assert all(options["metadata"]["cryovae"]["run"] == str(run) for _, options, _ in layers)


def test_a_run_whose_inputs_are_gone_shows_its_results(run):
    (run.parent / "ts_half1.mrc").unlink()
    roles = [options["metadata"]["cryovae"]["role"] for _, options, _ in layers_of_run(run)]
    assert roles == ["mean", "std", "samples"]


def test_a_run_that_is_not_finished_is_one_notification(tmp_path, shown):
    (tmp_path / "run.json").write_text(json.dumps({"name": "ts", "status": "stopped", "inputs": {}}))
    with pytest.raises(InputError, match="no restored volume"):
        layers_of_run(tmp_path)
    assert run_reader(str(tmp_path))(str(tmp_path)) == NOTHING
    assert "stopped" in shown[0]


def test_what_is_written_keeps_the_header(tmp_path, run):
    source = write_mrc(tmp_path / "a.mrc", np.random.default_rng(1).normal(size=SHAPE).astype("f4"), 9.0)
    with mrcfile.open(source, "r+") as mrc:
        mrc.header.origin = (11.0, 12.0, 13.0)
        mrc.add_label("first label")
    data, options, _ = layer_of_file(source)
    path = tmp_path / "out.mrc"
    assert write_image(str(path), data, options) == [str(path)]
    with mrcfile.open(path) as mrc:
        assert mrc.header.origin.tolist() == (11.0, 12.0, 13.0)
        assert float(mrc.voxel_size.x) == pytest.approx(9.0)
        assert any("first label" in label for label in mrc.get_labels())
        assert np.array_equal(mrc.data, data)


def test_ome_zarr_is_written_too(tmp_path):
    zarr = pytest.importorskip("zarr")
    data, options, _ = layer_of_file(write_mrc(tmp_path / "a.mrc", np.random.default_rng(1).normal(size=SHAPE).astype("f4"), 9.0))
    write_image(str(tmp_path / "out.zarr"), data, options)
    assert np.array_equal(zarr.open_group(tmp_path / "out.zarr", mode="r")["0"][...], data)


@pytest.mark.parametrize(
    ("data", "options"),
    [(np.zeros((2, *SHAPE), "f4"), {"scale": (1, 1, 1, 1)}), (np.zeros(SHAPE, "f4"), {"scale": (3.0, 1.0, 1.0)})],
)
def test_what_cannot_be_written_is_one_notification(tmp_path, shown, data, options):
    assert write_image(str(tmp_path / "out.mrc"), data, options) == []
    assert len(shown) == 1
    assert not (tmp_path / "out.mrc").exists()


def test_scales_in_nanometres_are_understood():
    assert voxel_size({"scale": (1.2, 1.2, 1.2), "units": ("nanometer",) * 3}) == pytest.approx(12.0)


def test_the_sample_is_the_same_with_and_without_its_files():
    """What an installed package simulates is what lies in data_samples."""
    stored, made = samples.open_sample(), samples.simulated()
    for (one, options, _), (two, again, _) in zip(stored, made, strict=True):
        assert np.allclose(one, two, atol=1e-3 * np.std(two))
        assert options["metadata"]["cryovae"]["role"] == again["metadata"]["cryovae"]["role"]
        assert options["metadata"]["cryovae"]["tilts"] == again["metadata"]["cryovae"]["tilts"]


def test_half_a_gigabyte_opens_at_once(tmp_path):
    """512 x 512 x 256 voxels: under 2 s and 300 MB, for only one slice is read."""
    path = write_mrc(tmp_path / "big.mrc", np.ones((1, 2, 2), "f4"))
    with path.open("r+b") as file:
        file.write(np.array([512, 512, 256], "<i4").tobytes())
        file.seek(28)
        file.write(np.array([512, 512, 256], "<i4").tobytes())
        file.truncate(1024 + 4 * 512 * 512 * 256)
    code = (
        "import sys, time\n"
        "from cryovae.workflows.memory import resident\n"
        "from cryovae.napari_plugin.reading import volume_reader\n"
        'peak = lambda: resident("VmHWM") / 1e6\n'
        "before, began = peak(), time.perf_counter()\n"
        "[(data, options, _)] = volume_reader(sys.argv[1])(sys.argv[1])\n"
        "print(data.shape == (256, 512, 512), time.perf_counter() - began, peak() - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    right, seconds, megabytes = done.stdout.split()
    assert right == "True"
    assert float(seconds) < 2
    assert float(megabytes) < 300


def test_view_without_napari_says_what_to_install(monkeypatch, tmp_path):
    from cryovae.cli import view

    monkeypatch.setattr(view, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install \"cryovae\[napari\]\""):
        view.view(tmp_path)


def test_view_of_nothing_is_refused_in_one_line(tmp_path):
    environment = os.environ | {"QT_QPA_PLATFORM": "offscreen"}
    began = time.perf_counter()
    command = [sys.executable, "-m", "cryovae", "view", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 2, (done.stderr, time.perf_counter() - began)
    assert len(done.stderr.strip().splitlines()) == 1


def test_the_manifest_is_valid_and_all_it_names_is_there():
    from importlib import import_module

    npe2 = pytest.importorskip("npe2")
    manifest = npe2.PluginManifest.from_distribution("cryovae")
    assert manifest.name == "cryovae"
    for command in manifest.contributions.commands:
        module, name = command.python_name.split(":")
        assert callable(getattr(import_module(module), name))


def test_halves_and_results_stay_on_the_disk_and_lie_upright(tmp_path):
    """An unrotated run of two halves: only the slice that is shown is read, and it is that of the rotated volume."""
    from cryovae.io.orientation import upright
    from cryovae.napari_plugin.lazy import OfView

    rng = np.random.default_rng(0)
    halves = [rng.normal(size=SHAPE).astype("f4") for _ in range(2)]
    paths = [write_mrc(tmp_path / f"ts_half{i + 1}.mrc", half, 7.0) for i, half in enumerate(halves)]
    folder = tmp_path / "run"
    folder.mkdir()
    mean = rng.normal(size=SHAPE).astype("f4")
    write_mrc(folder / "ts_mean.mrc", mean, 7.0)
    record = {
        "name": "ts",
        "status": "done",
        "unrotated": True,
        "inputs": {f"half{i + 1}": {"path": str(p)} for i, p in enumerate(paths)},
    }
    (folder / "run.json").write_text(json.dumps(record | {"tilts": recorded(TiltGeometry.from_range(-60, 50))}))
    (source, options, _), (restored, _, _) = layers_of_run(folder)
    assert options["metadata"][KEY]["halves"] == [str(path) for path in paths]
    assert options["metadata"][KEY]["rotated"]
    assert isinstance(source, OfView)
    assert isinstance(restored, OfView)
    for lazy, full in ((source, upright((halves[0] + halves[1]) / 2)), (restored, upright(mean))):
        assert lazy.shape == full.shape
        for index in ((2,), (slice(None), 3), (1, slice(2, 5)), (slice(None), slice(None), -1), (2, 3, 4)):
            assert np.allclose(lazy[index], full[index])
        assert np.allclose(np.asarray(lazy), full)


def test_ome_zarr_is_a_pyramid(tmp_path):
    pytest.importorskip("zarr")
    density = np.random.default_rng(1).normal(size=(64, 160, 144)).astype("f4")
    data, options, _ = layer_of_file(write_mrc(tmp_path / "a.mrc", density, 9.0))
    write_image(str(tmp_path / "out.zarr"), data, options)
    reader = volume_reader(str(tmp_path / "out.zarr"))
    [(levels, again, _)] = reader(str(tmp_path / "out.zarr"))
    assert isinstance(levels, list)
    assert levels[0].shape == density.shape
    assert levels[1].shape[1] < density.shape[1]
    assert np.array_equal(levels[0][5], density[5])
    assert again["scale"] == (9.0, 9.0, 9.0)
    assert volume_reader(str(tmp_path)) is None
