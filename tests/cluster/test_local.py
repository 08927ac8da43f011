"""A batch on this machine: the same workflow as on a cluster, and what makes which of its steps stale."""

import csv
import json

import pytest

from tests.cluster.conftest import DAMAGED, cryovae, make_set, set_voxel


def _to_do(said: str) -> set[str]:
    line = next(line for line in said.splitlines() if line.startswith("to do: "))
    return set(line.removeprefix("to do: ").split(", "))


@pytest.mark.slow
def test_a_batch_on_this_machine_and_what_makes_its_steps_stale(tmp_path):
    table, out = make_set(tmp_path, steps=12), tmp_path / "out"
    words = ["batch", table, "-o", out, "--preset", "quick", "--config", tmp_path / "tiny.toml", "--threads", "1"]
    first = cryovae(*words, check=False)
    assert first.returncode == 1, first.stdout + first.stderr
    with (out / "summary.csv").open(newline="") as file:
        states = {row["name"]: row["state"] for row in csv.DictReader(file)}
    assert states == {"model": "done", "TS_1": "done", "TS_2": "done", DAMAGED: "failed", "TS_4": "done"}
    assert (out / "TS_1/evaluation.json").exists()
    assert not (out / "TS_2/evaluation.json").exists()

    rows = {f"TS_{number}.restored" for number in range(1, 5)}
    set_voxel(tmp_path / f"{DAMAGED}.mrc", 0.0)
    assert _to_do(cryovae(*words, "--prepare").stdout) == {f"{DAMAGED}.restored"}
    # Other settings of the restoration: not the model.
    assert _to_do(cryovae(*words, "--prepare", "--samples", "4").stdout) == {*rows, "TS_1.evaluated"}
    # Other settings of the training: all.
    assert _to_do(cryovae(*words, "--prepare", "--steps", "14").stdout) == {"model.trained", *rows, "TS_1.evaluated"}
    # A tomogram that the model was trained on has changed.
    set_voxel(tmp_path / "TS_2.mrc", 1.0)
    assert "model.trained" in _to_do(cryovae(*words, "--prepare").stdout)


@pytest.mark.slow
def test_rows_and_folders_of_any_name_run_and_bad_rows_are_named(tmp_path):
    """One row is damaged, one has no file and the name of the folder above, one has braces and a quote in its name."""
    table, out = make_set(tmp_path, steps=4), tmp_path / "run #2: 50% $HOME {y} 'q' -60"
    strange = 'ts{x}"q<b>'
    text = table.read_text().replace("TS_1 None", f"{strange} None").replace("TS_2 TS_2.mrc", ".. gone.mrc")
    table.write_text(text)
    words = ["batch", table, "-o", out, "--preset", "quick", "--config", tmp_path / "tiny.toml", "--threads", "1"]
    first = cryovae(*words, check=False)
    assert first.returncode == 1, first.stdout + first.stderr
    with (out / "summary.csv").open(newline="") as file:
        states = {row["name"]: row["state"] for row in csv.DictReader(file)}
    assert states == {"model": "done", strange: "done", "row_2": "failed", DAMAGED: "failed", "TS_4": "done"}
    assert "row 2 has the name '..'" in first.stdout
    assert (out / strange / f"{strange}_mean.mrc").exists()
    assert json.loads((out / "model" / "run.json").read_text())["status"] == "done"
    assert not (tmp_path / "run.json").exists()
    assert not (out / "run.json").exists()
    assert _to_do(cryovae(*words, "--prepare").stdout) == {f"{DAMAGED}.restored"}


def test_a_folder_without_a_batch_and_a_step_without_a_row_are_refused(tmp_path):
    for words, said in ((["status", tmp_path], "holds no batch"), (["step", "restore", tmp_path], "without --row")):
        done = cryovae("batch", *words, check=False)
        assert done.returncode == 2
        assert said in done.stderr
