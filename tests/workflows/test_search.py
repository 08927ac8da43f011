"""--sampler, --refine and --temperature on the command line: in the headers, the record, the report and the layers."""

from __future__ import annotations

import json
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from cryovae.checkpoint import Checkpoint, save_model
from cryovae.napari_plugin.contents import layers_of_run
from tests.helpers.cli import TINY, cryovae, refused

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture
def model(ladder, tmp_path: Path) -> Path:
    save_model(tmp_path / "model.safetensors", Checkpoint(ladder, 16, 1, 2, {}))
    return tmp_path / "model.safetensors"


@pytest.mark.slow
def test_a_tempered_restoration_says_so_wherever_it_is_seen(small_files: dict[str, Path], model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = [
        "restore",
        small_files["full"],
        "--tilts",
        small_files["tilts"],
        "-o",
        out,
        *TINY,
        "--model",
        model,
        "--samples-out",
        "1",
    ]
    result = cryovae(
        *words, "--sampler", "reweighted", "--temperature", "3", "--refine", "2", "--set", "restoration.candidates=2"
    )
    assert result.returncode == 0, result.stderr
    for path in out.glob("*.mrc"):
        with mrcfile.open(path) as mrc:
            assert np.isfinite(mrc.data).all()
            assert "tempered (T 3)" in str(mrc.header.label[int(mrc.header.nlabl) - 1])
    search = json.loads((out / "run.json").read_text())["restoration"]["search"]
    assert search["tempered"] is True
    assert 1 <= search["effective_sample_size"]["least"] <= search["effective_sample_size"]["of"] == 2
    assert search["guard"]["steps"][-1] == search["asked_steps"] == 2
    assert "Effective sample size" in (out / "run.log").read_text()
    assert "Tempered" in (out / "report.html").read_text()
    layers = {options["metadata"]["cryovae"]["role"]: options for _, options, _ in layers_of_run(out)}
    assert "tempered (T 3)" in layers["mean"]["name"]
    assert layers["samples"]["metadata"]["cryovae"]["tempered"] == 3.0
    assert "tempered" not in layers["input"]["metadata"]["cryovae"]


def test_an_impossible_search_is_refused_in_one_line(small_files: dict[str, Path], tmp_path: Path) -> None:
    words = ["restore", small_files["full"], "--tilts", small_files["tilts"], "-o", tmp_path / "out"]
    refused(cryovae(*words, "--sampler", "gibbs"), "sampler 'gibbs'", "langevin")
    refused(cryovae(*words, "--temperature", "2"), "--temperature 2", "--sampler reweighted")
    refused(cryovae(*words, "--refine", "5", "--objective", "deepdewedge"), "deepdewedge", "one answer")
    assert not (tmp_path / "out").exists()
