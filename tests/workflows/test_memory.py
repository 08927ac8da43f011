"""What --memory takes, and restorations that keep it."""

import subprocess
import sys
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from cryovae.checkpoint import Checkpoint, save_model
from cryovae.errors import InputError
from cryovae.models.ladder import Ladder
from cryovae.models.ladder_config import LadderConfig
from cryovae.workflows import memory
from tests.conftest import write_mrc
from tests.helpers.cli import ALONE, cryovae, refused

RANGE = ["--tilt-range", "-60", "60"]
# Runs a command and prints its peak in kilobytes. A process counts as its own what the one that started it had when it did, so
# that has to be a small one, and not that of the tests.
PEAK = (
    "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:]); "
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)"
)


@pytest.fixture
def model(tmp_path, ladder):
    save_model(tmp_path / "model.safetensors", Checkpoint(ladder, 16, 1, 2, {}))
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize(
    ("text", "size"), [("4GB", 4 * 10**9), ("2GiB", 2 * 2**30), ("500MB", 5 * 10**8), ("1.5 gb", 15 * 10**8), ("3G", 3 * 10**9)]
)
def test_sizes_are_read_with_their_units(text, size):
    assert memory.parsed(text) == size


@pytest.mark.parametrize("text", ["4", "GB", "-4GB", "0GB", "4XB", "four GB", "", "1e3GB"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(InputError, match="4GB"):
        memory.parsed(text)


def test_without_a_budget_a_share_of_what_is_free_is_taken():
    budget = memory.budget_of(None)
    assert memory.resident() < budget < memory.resident() + memory.free() * 1.1
    assert memory.resident("VmHWM") >= memory.resident() > 1e6


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_program")
def test_a_tomogram_that_does_not_fit_is_streamed_to_the_same(small_files, model, monkeypatch, tmp_path):
    arguments = ["restore", "--half1", small_files["half1"], "--half2", small_files["half2"], *RANGE, "--model", model]
    arguments += [
        "--samples",
        "2",
        "--set",
        "restoration.calibrate=false",
        "--set",
        "restoration.halves=false",
        "--sampler",
        "amortised",
        "--threads",
        "1",
        "--device",
        "cpu",
        "--unrotated",
        # Its beam lies along z in truth, which the check of the spectrum sees.
        "--force",
    ]
    assert cryovae(*arguments, "-o", tmp_path / "memory", "--memory", "8GB").returncode == 0
    assert not (tmp_path / "memory" / "restoring").exists()
    monkeypatch.setattr(memory, "PROGRAM", 100e9)
    monkeypatch.setattr("cryovae.workflows.streaming.room_within", lambda *_: (3e5, 1e9, 10**6))
    monkeypatch.setattr("cryovae.workflows.restore.region_within", _middle)
    parts = tmp_path / "parts"
    assert cryovae(*arguments, "-o", parts, "--memory", "8GB").returncode == 0
    with mrcfile.open(small_files["half1"]) as mrc:
        scale = float(mrc.data.std())
    for kind in ("mean", "std"):
        name = f"ts_01_{kind}.mrc"
        with mrcfile.open(tmp_path / "memory" / name) as one, mrcfile.open(parts / name) as two:
            assert np.abs(one.data - two.data).max() < 1e-5 * scale, kind
            assert one.get_labels() == two.get_labels()
            assert one.voxel_size == two.voxel_size
    assert not (parts / "restoring").exists()
    assert not list(parts.glob(".*part*"))
    assert "its middle" in (parts / "report.html").read_text()
    assert '"streamed"' in (parts / "run.json").read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_program")
def test_a_tomogram_that_does_not_fit_is_trained_on_in_part(small_files, monkeypatch, tmp_path):
    (tmp_path / "small.toml").write_text(
        "[ladder]\nwidths = [4, 6]\nlatents = [2, 3]\nblocks = 1\n[training]\npatch = 16\nbatch = 1\nsteps = 4\n"
        '[restoration]\nsampler = "amortised"\n'
    )
    arguments = [*RANGE, "--config", tmp_path / "small.toml", "--memory", "1.5GB", "--threads", "1", "--device", "cpu"]
    halves = ["--half1", small_files["half1"], "--half2", small_files["half2"]]
    plain = ["--samples", "2", "--set", "restoration.calibrate=false"]
    monkeypatch.setattr(memory, "IN_MEMORY_HALVES", 10**7)
    monkeypatch.setattr("cryovae.workflows.train_crops.IN_TRAINING", 10**4)
    monkeypatch.setattr("cryovae.workflows.train_crops.LEAST", 1)
    out = tmp_path / "r"
    done = cryovae("restore", *halves, *arguments, *plain, "-o", out)
    assert done.returncode == 0, done.stderr
    said = (out / "run.log").read_text()
    assert "larger than memory, trained on the" in said
    assert "GB with all it needs: streamed" in said
    with mrcfile.open(small_files["half1"]) as source, mrcfile.open(out / "ts_01_mean.mrc") as mean:
        assert mean.data.shape == source.data.shape
    several = cryovae("train", small_files["full"], *arguments, "-o", tmp_path / "m")
    assert several.returncode == 0, several.stderr
    assert "larger than memory, trained on the" in (tmp_path / "m" / "run.log").read_text()


def _middle(shape, budget):
    from cryovae.evaluation.region import box_about

    return box_about([n // 2 for n in shape], 20, shape)


@pytest.mark.usefixtures("fresh_program")
def test_what_cannot_be_streamed_is_refused_in_one_line(small_files, model, tmp_path):
    arguments = ["restore", small_files["full"], *RANGE, "-o", tmp_path / "r", "--threads", "1", "--device", "cpu"]
    refused(cryovae(*arguments, "--memory", "300"), "--memory 300 found", "4GB")
    refused(cryovae(*arguments, "--memory", "300MB"), "no part worth training on", "--model")
    refused(cryovae(*arguments, "--memory", "300MB", "--objective", "isonet2"), "takes all of it at once")
    refused(cryovae(*arguments, "--memory", "300MB", "--model", model), "expected at least")
    refused(cryovae(*arguments, "--memory", "300MB", "--model", model, "--format", "zarr"), "only MRC")
    refused(cryovae(*arguments, "--memory", "300MB", "--model", model, "--refine", "5"), "a search cannot be streamed")
    packed = tmp_path / "packed.mrc.gz"
    import gzip

    packed.write_bytes(gzip.compress(small_files["full"].read_bytes()))
    refused(cryovae("restore", packed, *arguments[2:], "--memory", "300MB", "--model", model), "compressed")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_tomogram_of_many_times_its_budget_is_restored(tmp_path):
    """96 x 224 x 224 voxels, 19 MB, which in memory take 1.1 GB: peak of the process under 800 MB and a tenth."""
    from cryovae.io.mrc.header import read_header

    ladder = Ladder(LadderConfig((2, 2), (1, 1), 1))
    save_model(tmp_path / "model.safetensors", Checkpoint(ladder, 32, 1, 2, {}))
    path = write_mrc(tmp_path / "large.mrc", np.random.default_rng(0).normal(size=(96, 224, 224)).astype(np.float32))
    line = [sys.executable, "-m", "cryovae", "restore", path, *RANGE, "--model", tmp_path / "model.safetensors"]
    line += ["-o", tmp_path / "r", "--samples", "2", "--memory", "800MB", "--threads", "1", "--device", "cpu"]
    ran = subprocess.run([sys.executable, "-c", PEAK, *map(str, line)], capture_output=True, text=True, env=ALONE, check=False)
    assert ran.returncode == 0, ran.stderr
    peak = 1024 * int(ran.stdout.splitlines()[-1])
    assert read_header(Path(tmp_path / "r" / "large_mean.mrc")).size == (224, 224, 96)
    assert peak < 1.1 * 800e6
