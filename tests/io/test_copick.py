"""Copick trees: what is written opens in the package copick; tomograms of trees and of the CryoET Data Portal are read."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

zarr = pytest.importorskip("zarr", reason="the extra zarr is not installed")

from cryovae.errors import InputError  # noqa: E402
from cryovae.io.copick import SUFFIX, add_results, check_run_name, write_config  # noqa: E402
from cryovae.io.files import read_volume, suffix_of, write_volume  # noqa: E402
from cryovae.io.load import load_tomogram  # noqa: E402
from cryovae.io.names import tomogram_name  # noqa: E402
from cryovae.io.volume import voxel_size_of  # noqa: E402
from cryovae.tomogram import TiltGeometry  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
SHAPE, SIZE = (19, 40, 26), 13.481


def density(seed):
    return np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32)


def restored(root, run, kinds=("mean", "std", "measured", "mean_half1")):
    folder = root / run
    for seed, kind in enumerate(kinds):
        write_volume(folder / f"{run}_{kind}{SUFFIX}", density(seed), None, SIZE, kind)
    return folder


@pytest.fixture
def copick_python():
    """An interpreter that has copick: of CRYOVAE_COPICK_PYTHON, or of the environment that pipelines/copick.sh makes."""
    python = os.environ.get("CRYOVAE_COPICK_PYTHON") or str(ROOT / ".venv-copick" / "bin" / "python")
    if not os.path.exists(python):
        pytest.skip("no interpreter with copick: run pipelines/copick.sh, or set CRYOVAE_COPICK_PYTHON")
    return python


def test_the_package_copick_opens_the_tree(tmp_path, copick_python):
    for run in ("TS_01", "TS_1"):
        add_results(tmp_path, run, restored(tmp_path, run))
    out = tmp_path / "read.npz"
    script = [copick_python, str(Path(__file__).with_name("open_copick.py")), str(tmp_path / "copick.json"), str(out)]
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    opened = subprocess.run(script, capture_output=True, text=True, check=False, env=clean)
    assert opened.returncode == 0, opened.stderr
    kinds = ["cryovae-mean", "cryovae-mean-half1", "cryovae-measured", "cryovae-std"]
    read = json.loads(opened.stdout.splitlines()[-1])
    assert read == [[run, SIZE, kind, True, [SIZE] * 3, 3] for run in ("TS_01", "TS_1") for kind in kinds]
    volumes = np.load(out)
    assert np.array_equal(volumes["TS_01/cryovae-mean"], density(0))
    assert np.array_equal(volumes["TS_1/cryovae-mean-half1"], density(3))


def test_the_tree_is_laid_out_as_copick_expects_and_takes_no_room(tmp_path):
    folder = restored(tmp_path, "TS_01")
    placed = add_results(tmp_path, "TS_01", folder)
    spacing = tmp_path / "ExperimentRuns" / "TS_01" / "VoxelSpacing13.481"
    assert sorted(placed) == sorted(spacing.iterdir())
    mean = spacing / "cryovae-mean.zarr"
    attributes = json.loads((mean / ".zattrs").read_text())
    (image,) = attributes["multiscales"]
    assert (image["version"], [d["path"] for d in image["datasets"]]) == ("0.4", ["0", "1", "2"])
    assert json.loads((mean / "0" / ".zarray").read_text())["dimension_separator"] == "/"
    volume = read_volume(mean)
    assert volume.stored == "OME-Zarr 0.4, float32"
    assert voxel_size_of(volume, None) == SIZE
    assert np.array_equal(np.asarray(volume.density), density(0))
    chunk = Path("0/0/0/0")
    assert os.path.samefile(mean / chunk, folder / f"TS_01_mean{SUFFIX}" / chunk)


def test_a_new_restoration_replaces_all_of_an_earlier_one(tmp_path):
    folder = restored(tmp_path, "TS_01", ("mean", "std", "sample_0"))
    add_results(tmp_path, "TS_01", folder)
    own = tmp_path / "ExperimentRuns" / "TS_01" / "VoxelSpacing13.481" / "wbp.zarr"
    own.mkdir()
    for kind in ("std", "sample_0"):
        os.rename(folder / f"TS_01_{kind}{SUFFIX}", tmp_path / kind)
    write_volume(folder / f"TS_01_mean{SUFFIX}", density(7), None, SIZE, "mean")
    (mean,) = add_results(tmp_path, "TS_01", folder)
    assert sorted(path.name for path in own.parent.iterdir()) == ["cryovae-mean.zarr", "wbp.zarr"]
    assert np.array_equal(np.asarray(read_volume(mean).density), density(7))


def test_results_at_a_second_voxel_size_are_of_a_spacing_of_their_own(tmp_path):
    folder = restored(tmp_path, "TS_01", ("mean",))
    write_volume(folder / f"TS_01_mean_20A{SUFFIX}", density(3)[::2, ::2, ::2], None, 20.0, "mean")
    placed = add_results(tmp_path, "TS_01", folder)
    assert sorted(path.relative_to(tmp_path / "ExperimentRuns" / "TS_01").as_posix() for path in placed) == [
        "VoxelSpacing13.481/cryovae-mean.zarr", "VoxelSpacing20.000/cryovae-mean.zarr",
    ]  # fmt: skip


def test_results_of_another_tomogram_in_the_folder_are_not_taken(tmp_path):
    for run in ("TS_1", "TS_1_2"):
        write_volume(tmp_path / f"{run}_mean{SUFFIX}", density(0), None, SIZE, "mean")
    assert [path.name for path in add_results(tmp_path, "TS_1", tmp_path)] == ["cryovae-mean.zarr"]
    assert [path.name for path in (tmp_path / "ExperimentRuns").iterdir()] == ["TS_1"]


def test_a_configuration_of_the_user_stays(tmp_path):
    own = {"config_type": "filesystem", "pickable_objects": [{"name": "ribosome", "is_particle": True}], "user_id": "me"}
    (tmp_path / "project.json").write_text(json.dumps(own | {"overlay_root": f"local://{tmp_path}"}))
    assert write_config(tmp_path).name == "project.json"
    assert not (tmp_path / "copick.json").exists()
    (tmp_path / "project.json").unlink()
    other = json.dumps(own | {"overlay_root": "local:///elsewhere"})
    (tmp_path / "copick.json").write_text(other)
    assert write_config(tmp_path).name == "cryovae_copick.json"
    assert (tmp_path / "copick.json").read_text() == other
    first = (tmp_path / "cryovae_copick.json").read_text()
    assert write_config(tmp_path).read_text() == first


def test_a_name_that_copick_takes_for_a_pattern_is_refused():
    with pytest.raises(InputError, match="expected a name without"):
        check_run_name("TS[1]")
    check_run_name("TS_01 (a)")
    assert suffix_of("copick") == SUFFIX


def portal_zarr(path, voxels):
    """A tomogram as the CryoET Data Portal lays it out: Zarr 2, OME-Zarr 0.4, three scales of z, y, x in angstrom."""
    group = zarr.open_group(path, mode="w", zarr_format=2)
    datasets = []
    for level in range(3):
        step = 2**level
        array = group.create_array(
            str(level),
            data=voxels[::step, ::step, ::step],
            chunks=(16, 16, 16),
            chunk_key_encoding={"name": "v2", "separator": "/"},
        )
        assert array.metadata.zarr_format == 2
        transformations = [{"type": "scale", "scale": [SIZE * step] * 3}]
        datasets.append({"path": str(level), "coordinateTransformations": transformations})
    axes = [{"name": name, "type": "space", "unit": "angstrom"} for name in "zyx"]
    group.attrs["multiscales"] = [{"axes": axes, "datasets": datasets, "metadata": {}, "name": "/", "version": "0.4"}]
    return path


@pytest.mark.parametrize("dtype", [np.float32, np.int8, np.int16])
def test_a_tomogram_of_the_portal_is_read(tmp_path, dtype):
    voxels = (20 * density(1)).astype(dtype)
    path = portal_zarr(
        tmp_path / "10001" / "TS_026" / "Reconstructions" / "VoxelSpacing13.481" / "Tomograms" / "100" / "TS_026.zarr", voxels
    )
    tomogram = load_tomogram(path, None, TiltGeometry.from_range(-60, 60))
    assert np.array_equal(np.asarray(tomogram.density), voxels.astype(np.float32))
    assert tomogram.voxel_size == SIZE
    assert tomogram_name(path) == "TS_026"


def test_a_tomogram_of_a_tree_is_called_as_its_run(tmp_path):
    spacing = tmp_path / "ExperimentRuns" / "TS_026" / "VoxelSpacing13.481"
    assert tomogram_name(portal_zarr(spacing / "wbp.zarr", density(2))) == "TS_026"
    assert tomogram_name(tmp_path / "VoxelSpacing13.481" / "wbp.zarr") == "wbp"
