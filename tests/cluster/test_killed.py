"""kill -9 at random moments: what has its final name is complete at any time, and --resume brings every run to its end."""

import json
import multiprocessing
import os
import random
import time
import tomllib
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import mrcfile
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from tests.cluster.conftest import make_set

KILLS = 20
# Of the run's own, and appended to line by line, so that there is no moment at which they are done.
GROWING = ("run.log", "metrics.csv")
PRELOADED = ["cryovae.workflows.train", "cryovae.workflows.restore", "cryovae.cli.app", "cryovae.io.load"]


def _run(words):
    """A command in a process whose imports are done before: what is killed is work."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    with open(os.devnull, "w") as nowhere:
        for stream in (1, 2):
            os.dup2(nowhere.fileno(), stream)
    from cryovae.cli.app import app

    app(words)


def _check_complete(path: Path) -> None:
    """Fails if a file that has its final name is not all there."""
    readers = {
        ".json": lambda: json.loads(path.read_text()),
        ".toml": lambda: tomllib.loads(path.read_text()),
        ".safetensors": lambda: load_file(path),
        ".pt": lambda: torch.load(path, weights_only=True),
        ".png": lambda: plt.imread(path),
        ".html": lambda: path.read_text().rstrip().endswith("</html>") or pytest.fail(f"{path} is cut short"),
    }
    if path.suffix == ".mrc":
        assert np.isfinite(mrcfile.read(path)).all()
        assert mrcfile.validate(path, print_file=open(os.devnull, "w"))  # noqa: SIM115
    elif path.name not in GROWING:
        readers[path.suffix]()


def _check(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        for path in folder.rglob("*") if folder.exists() else []:
            # What has no final name yet begins with a dot; arrays in a sub-folder are for the run alone.
            parts = path.relative_to(folder).parts
            temporary = len(parts) > 1 or parts[0].startswith(".")
            if path.is_file() and not temporary:
                _check_complete(path)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_at_any_moment_it_resumes_to_the_same_end(tmp_path):
    table = make_set(tmp_path, steps=30, minutes=0.005)
    options = ["--tilt-range", "-60", "60", "--preset", "quick", "--config", str(table.with_name("tiny.toml")), "--device", "cpu"]
    words = ["restore", str(tmp_path / "TS_2.mrc"), *options, "--threads", "1", "--resume", "-o"]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)

    def start(folder: Path):
        process = context.Process(target=_run, args=([*words, str(folder)],))
        process.start()
        return process

    def finish(folder: Path) -> float:
        began, process = time.monotonic(), start(folder)
        process.join(120)
        assert process.exitcode == 0
        return time.monotonic() - began

    # The first run waits for the imports of the server that the processes are forked from.
    finish(tmp_path / "first")
    lasting = finish(tmp_path / "whole")
    random.seed(0)
    killed, number = 0, 0
    while killed < KILLS:
        number += 1
        folder, ended = tmp_path / f"broken_{number}", False
        while killed < KILLS and not ended:
            process = start(folder)
            process.join(random.uniform(0, lasting))
            if not process.is_alive():
                assert process.exitcode == 0
                ended = True
                continue
            process.kill()
            process.join()
            killed += 1
            _check(folder)
        if not ended:
            finish(folder)
        _check(folder)
        _same(folder, tmp_path / "whole")


def _same(folder: Path, reference: Path) -> None:
    weights, expected = load_file(folder / "model.safetensors"), load_file(reference / "model.safetensors")
    assert all(np.array_equal(weights[name], expected[name]) for name in expected)
    for kind in ("mean", "std"):
        assert np.array_equal(mrcfile.read(folder / f"TS_2_{kind}.mrc"), mrcfile.read(reference / f"TS_2_{kind}.mrc"))
