"""One command run by two processes, as torchrun starts them: one result, from the first, and one line of error."""

import json
import subprocess
import sys

import mrcfile
import numpy as np
import pytest

from cryovae.checkpoint import MODEL, Checkpoint, save_model
from tests.conftest import write_mrc

BY_TWO = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
SIZES = ("--threads", "1", "--device", "cpu", "--samples", "2", "--sampler", "amortised")
TRAINED = (
    "[ladder]\nwidths = [4, 6]\nlatents = [2, 3]\nblocks = 1\n"
    "[training]\npatch = 16\nbatch = 1\nsteps = 4\nvalidate_every = 2\nbinnings = 1\n"
    '[restoration]\nsampler = "amortised"\n'
)

pytestmark = pytest.mark.slow


def _run(*arguments, by=()):
    line = [sys.executable, *by, "-m", "cryovae", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture
def halves(tmp_path, small):
    return [write_mrc(tmp_path / f"corner_half{i + 1}.mrc", half, 10.0) for i, half in enumerate(small.halves)]


def _restore(halves, out, *more):
    return ("restore", "--half1", halves[0], "--half2", halves[1], "--tilt-range", -60, 60, "-o", out, *SIZES, *more)


def test_two_processes_restore_what_one_restores(halves, tmp_path, ladder):
    save_model(tmp_path / MODEL, Checkpoint(ladder, 16, 5, 2, {}))
    for name, by in (("one", ()), ("two", BY_TWO)):
        result = _run(*_restore(halves, tmp_path / name, "--model", tmp_path / MODEL), by=by)
        assert result.returncode == 0, result.stderr
        assert result.stdout.count("restored:") == 1
    one, two = (sorted(p.name for p in (tmp_path / name).iterdir()) for name in ("one", "two"))
    assert one == two
    for kind in ("mean", "std", "mean_half1"):
        one, two = (mrcfile.read(tmp_path / name / f"corner_{kind}.mrc") for name in ("one", "two"))
        assert np.abs(one - two).max() < 1e-4 * one.std()


def test_two_processes_train_one_model_and_restore_with_it(halves, tmp_path):
    (tmp_path / "small.toml").write_text(TRAINED)
    out = tmp_path / "out"
    result = _run(*_restore(halves, out, "--config", tmp_path / "small.toml"), by=BY_TWO)
    assert result.returncode == 0, result.stderr
    record = json.loads((out / "run.json").read_text())
    assert (record["status"], record["training"]["steps"]) == ("done", 4)
    assert np.isfinite(mrcfile.read(out / "corner_mean.mrc")).all()
    assert not [p for p in out.iterdir() if p.name.endswith(".part") or p.name.startswith(".")]


def test_what_is_wrong_is_said_once(halves, tmp_path):
    result = _run(*_restore(halves, tmp_path / "out", "--model", tmp_path / "missing"), by=BY_TWO)
    assert result.returncode != 0
    assert result.stderr.count("cryovae: ") == 1


def test_two_processes_train_a_deterministic_network(halves, tmp_path):
    (tmp_path / "small.toml").write_text(TRAINED)
    settings = ("--config", tmp_path / "small.toml", "--objective", "isonet2")
    result = _run(*_restore(halves, tmp_path / "out", *settings), by=BY_TWO)
    assert result.returncode == 0, result.stderr
    mean = mrcfile.read(next((tmp_path / "out").glob("*_mean.mrc")))
    assert np.isfinite(mean).all()
    assert mean.std() > 0
