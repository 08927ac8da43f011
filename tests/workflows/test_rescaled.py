"""Results at another voxel size, and beads that stay as they are, from the command line."""

import mrcfile
import numpy as np
import pytest

from cryovae.restoration.rescaling import rescaled
from tests.conftest import write_mrc
from tests.helpers.cli import RANGE, TINY, cryovae, refused

pytestmark = pytest.mark.usefixtures("undrawn")


def _restored(small_run, output, *options):
    result = cryovae("restore", small_run / "ts_01.mrc", *RANGE, "--model", small_run / "run", "-o", output, *TINY[:-2], *options)
    assert result.returncode == 0, result.stderr
    return {path.name for path in output.glob("*.mrc")}


def test_a_second_voxel_size_is_written_and_goes_with_its_run(small_run, tmp_path):
    output = tmp_path / "out"
    with mrcfile.mmap(small_run / "ts_01.mrc") as before:
        shape = before.data.shape
    names = _restored(small_run, output, "--samples", "2", "--samples-out", "1", "--output-voxel-size", "15")
    once = {"ts_01_mean.mrc", "ts_01_measured.mrc", "ts_01_sample_0.mrc"}
    assert names == once | {"ts_01_std.mrc"} | {name.replace(".mrc", "_15A.mrc") for name in once}
    with mrcfile.open(output / "ts_01_mean_15A.mrc") as small, mrcfile.open(output / "ts_01_mean.mrc") as full:
        assert small.data.shape == tuple(round(n / 1.5) for n in shape)
        assert float(small.voxel_size.x) == pytest.approx(15.0)
        np.testing.assert_allclose(small.data, rescaled(full.data, 1.5), atol=1e-4)
    left = _restored(small_run, output, "--samples", "2", "--samples-out", "0", "--overwrite")
    assert left == once - {"ts_01_sample_0.mrc"} | {"ts_01_std.mrc"}


@pytest.mark.usefixtures("fresh_program")
def test_a_streamed_run_writes_the_same_second_size(small_run, tmp_path, monkeypatch):
    options = "--samples", "2", "--output-voxel-size", "15"
    _restored(small_run, tmp_path / "held", *options)
    monkeypatch.setattr("cryovae.workflows.memory.IN_MEMORY", 10**9)
    _restored(small_run, tmp_path / "streamed", *options, "--memory", "2GB")
    held, streamed = (mrcfile.read(tmp_path / how / "ts_01_mean_15A.mrc") for how in ("held", "streamed"))
    np.testing.assert_allclose(streamed, held, atol=2e-3)


def test_a_voxel_size_that_cannot_be_is_refused_before_work(small_run, tmp_path):
    words = "restore", small_run / "ts_01.mrc", *RANGE, "-o", tmp_path / "out", "--steps", "100000", *TINY
    refused(cryovae(*words, "--output-voxel-size", "300"), "--output-voxel-size 300", "10 angstrom")
    assert not list((tmp_path / "out").glob("*.mrc"))


def test_beads_of_a_mask_stay_as_they_are(small, small_run, tmp_path):
    density = np.array(small.density)
    ball = sum((axis - at) ** 2 for axis, at in zip(np.ogrid[:24, :36, :32], (12, 20, 9), strict=True)) <= 9
    density[ball] -= 40 * density.std()
    write_mrc(tmp_path / "ts_01.mrc", density)
    made = cryovae("mask", tmp_path / "ts_01.mrc", "-o", tmp_path / "mask.mrc", "--exclude-beads")
    assert made.returncode == 0, made.stderr
    assert "beads: 1 of about" in made.stdout
    beads = mrcfile.read(tmp_path / "mask.mrc") < 0
    assert beads[ball].all()
    assert beads.mean() < 0.05
    result = cryovae(
        "restore", tmp_path / "ts_01.mrc", *RANGE, "--mask", tmp_path / "mask.mrc", "--model", small_run / "run",
        "-o", tmp_path / "out", *TINY,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "beads of the mask" in (tmp_path / "out/run.json").read_text()
    mean = mrcfile.read(tmp_path / "out/ts_01_mean.mrc")
    np.testing.assert_allclose(mean[beads], density[beads], rtol=1e-5)
    assert np.abs(mean - density)[~beads].mean() > 0.05


def test_a_mask_that_is_minus_one_outside_is_refused(small, small_run, tmp_path):
    mask = np.where(np.arange(32) < 16, 1, -1)[None, None] * np.ones(small.shape)
    write_mrc(tmp_path / "mask.mrc", mask.astype(np.float32))
    words = "restore", small_run / "ts_01.mrc", *RANGE, "--mask", tmp_path / "mask.mrc", "-o", tmp_path / "out", *TINY
    refused(cryovae(*words), "stands for gold beads", "let it be 0 outside")


def test_a_diameter_without_beads_is_refused(small_run, tmp_path):
    words = "mask", small_run / "ts_01.mrc", "-o", tmp_path / "mask.mrc", "--bead-diameter", "10"
    refused(cryovae(*words), "--bead-diameter", "--exclude-beads")
