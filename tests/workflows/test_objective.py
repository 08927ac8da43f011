"""--objective: a deterministic network by another loss, with the same files but no standard deviation."""

from __future__ import annotations

import json
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from cryovae.checkpoint import load_model, load_network, objective_of
from cryovae.config import override, preset
from cryovae.errors import InputError
from tests.helpers.cli import TINY_TRAIN, cryovae, refused

pytestmark = pytest.mark.usefixtures("undrawn")


def test_restore_by_another_objective_writes_mean_and_halves_but_no_std(small_files: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    halves = ["--half1", small_files["half1"], "--half2", small_files["half2"], "--tilts", small_files["tilts"]]
    result = cryovae("restore", *halves, "-o", out, *TINY_TRAIN, "--steps", "4", "--objective", "deepdewedge")
    assert result.returncode == 0, result.stderr
    kinds = ("mean", "measured", "mean_half1", "mean_half2")
    assert {path.name for path in out.glob("*.mrc")} == {f"ts_01_{kind}.mrc" for kind in kinds}
    assert {"report.html", "preview.png", "loss.png", "metrics.csv", "model.safetensors"} <= {p.name for p in out.iterdir()}
    record = json.loads((out / "run.json").read_text())
    assert record["status"] == "done"
    assert record["restoration"]["objective"] == "deepdewedge"
    assert record["restoration"]["std"].startswith("none")
    assert 'name = "deepdewedge"' in (out / "config.toml").read_text()
    mean = mrcfile.read(out / "ts_01_mean.mrc")

    # The model knows its objective: it is applied as what it is, and gives the same answer.
    again = tmp_path / "again"
    result = cryovae("restore", *halves, "-o", again, *TINY_TRAIN, "--model", out)
    assert result.returncode == 0, result.stderr
    assert np.allclose(mrcfile.read(again / "ts_01_mean.mrc"), mean, atol=1e-4 * float(np.abs(mean).max()))
    assert objective_of(out) == "deepdewedge"
    assert load_network(out).step == 4
    with pytest.raises(InputError, match="deepdewedge"):
        load_model(out)


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--set", "objective.divergence=sliced"], ["--set", "objective.stochastic=false"]])
def test_a_wae_restores_as_the_vae_does(small_files: dict[str, Path], tmp_path: Path, words: list[str]) -> None:
    """The same files, error bars among them; the folder says what was optimised, and its model is a ladder."""
    out = tmp_path / "out"
    halves = ["--half1", small_files["half1"], "--half2", small_files["half2"], "--tilts", small_files["tilts"]]
    result = cryovae("restore", *halves, "-o", out, *TINY_TRAIN, "--steps", "4", "--objective", "wae", *words)
    assert result.returncode == 0, result.stderr
    assert mrcfile.read(out / "ts_01_std.mrc").min() > 0
    settings = (out / "config.toml").read_text()
    assert 'name = "wae"' in settings
    assert words[1].removeprefix("objective.").split("=")[0] in settings
    assert load_model(out).step == 4


def test_train_one_network_on_several_volumes(small_files: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = [small_files["half1"], small_files["half2"], "--tilts", small_files["tilts"], "-o", out, *TINY_TRAIN, "--steps", "3"]
    result = cryovae("train", *words, "--objective", "isonet2")
    assert result.returncode == 0, result.stderr
    assert "can be copied" in (out / "run.log").read_text()
    assert load_network(out).objective == "isonet2"


def test_what_a_deterministic_network_cannot_do_is_refused(small_files: dict[str, Path], tmp_path: Path) -> None:
    words = ["restore", small_files["full"], "--tilts", small_files["tilts"], "-o", tmp_path / "out"]
    refused(cryovae(*words, "--objective", "isonet3"), "isonet3", "deepdewedge")
    refused(cryovae(*words, "--objective", "icecream", "--samples-out", "2"), "--samples-out 2", "one answer")
    assert not (tmp_path / "out").exists()


def test_the_variational_model_is_the_default() -> None:
    assert preset("quick").objective.name == "vae"
    with pytest.raises(InputError, match="objective 'other'"):
        override(preset("quick"), {"objective.name": "other"})
