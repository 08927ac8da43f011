"""A dry run says what would be done, with the refusals of the run itself, and writes nothing."""

import pytest

from cryovae.io.star.table import Block, write_blocks
from tests.helpers.cli import RANGE, TINY, TINY_TRAIN, cryovae, refused


def everything_in(folder):
    return sorted((path.relative_to(folder), path.is_dir() or path.read_bytes()) for path in folder.rglob("*"))


def test_a_restoration_is_planned_and_nothing_is_written(small_files, tmp_path):
    before = everything_in(tmp_path)
    words = ["restore", "--half1", small_files["half1"], "--half2", small_files["half2"], *RANGE, "-o", tmp_path / "out"]
    result = cryovae(*words, "--from", "none", "--steps", "7", *TINY, "--dry-run")
    assert result.returncode == 0, result.stderr
    for word in ("training, 7 steps", "calibration", "report", "in all, about", "GB", "_mean.mrc", "_std.mrc", "_sample_1.mrc"):
        assert word in result.stdout
    for name in ("model.safetensors", "run.json", "report.html", "nothing was written"):
        assert name in result.stdout
    assert "_mean_half1.mrc" in result.stdout
    assert everything_in(tmp_path) == before


def test_a_training_and_a_table_are_planned(small_files, tmp_path):
    before = everything_in(tmp_path)
    result = cryovae("train", small_files["full"], *RANGE, "-o", tmp_path / "m", "--steps", "9", *TINY_TRAIN, "--dry-run")
    assert result.returncode == 0, result.stderr
    assert "training, 9 steps" in result.stdout
    assert "report" not in result.stdout
    assert everything_in(tmp_path) == before
    table = tmp_path / "t.star"
    columns = {"rlnTomoName": ["a", "b"], "rlnTomoReconstructedTomogram": [str(small_files["full"])] * 2}
    write_blocks(table, {"": Block(columns | {"rlnTiltMin": ["-60"] * 2, "rlnTiltMax": ["60"] * 2})})
    before = everything_in(tmp_path)
    result = cryovae("restore", table, "-o", tmp_path / "out", "--steps", "9", *TINY, "--dry-run")
    assert result.returncode == 0, result.stderr
    assert "b_mean.mrc" in result.stdout
    assert "model.safetensors" in result.stdout
    assert everything_in(tmp_path) == before


def test_what_the_run_refuses_the_dry_run_refuses(small_run, tmp_path):
    words = ["restore", small_run / "ts_01.mrc", *RANGE, "-o", small_run / "run", "--steps", "4", *TINY, "--dry-run"]
    refused(cryovae(*words), "is there already", "--overwrite")
    refused(cryovae("restore", tmp_path / "gone.mrc", *RANGE, "-o", tmp_path / "out", "--dry-run"), "gone.mrc")
    assert not (tmp_path / "out").exists()


def test_a_finished_run_has_no_training_left_and_more_steps_are_what_is_left(small_run):
    words = ["restore", small_run / "ts_01.mrc", *RANGE, "-o", small_run / "run", *TINY, "--resume", "--dry-run"]
    assert "training" not in cryovae(*words, "--steps", "4").stdout.replace("training.", "")
    assert "training, 6 steps" in cryovae(*words, "--steps", "10").stdout


def test_a_state_that_is_not_needed_is_not_read(small_files, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "training.pt").write_bytes(b"no state")
    words = ["restore", small_files["full"], *RANGE, "-o", out, "--preset", "quick", "--resume", "--dry-run", "--device", "cpu"]
    assert cryovae(*words, "--from", "base").returncode == 0
    refused(cryovae(*words, "--from", "none"), "training.pt")


@pytest.mark.parametrize("preset", ["quick"])
def test_a_base_that_restores_at_once_is_not_trained(small_files, tmp_path, preset):
    words = ["restore", small_files["full"], *RANGE, "-o", tmp_path / "out", "--preset", preset, "--from", "base", "--dry-run"]
    result = cryovae(*words, "--device", "cpu")
    assert result.returncode == 0, result.stderr
    assert "training, " not in result.stdout
    assert "trained first: 800 steps" in result.stdout
    assert not (tmp_path / "out").exists()
