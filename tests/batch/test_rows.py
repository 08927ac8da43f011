"""Rows of a batch, whatever they are called: marks by number, records inside the folder, nothing that an engine could parse."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from cryovae.batch import engine
from cryovae.batch.plan import Batch, opened, refresh
from cryovae.batch.status import statuses
from cryovae.batch.summary import write_summary
from cryovae.config import preset
from cryovae.errors import InputError
from cryovae.io.star.table import Block, write_blocks
from tests.conftest import write_mrc
from tests.helpers.cli import cryovae, refused

BRACES = 'ts{x}"q<b>[1]'


def batch_of(folder, rows, out="out", **more):
    """A batch of rows (name, file): files called gone are missing, corrupt are no tomograms."""
    (folder / "set").mkdir()
    for number, (_, file) in enumerate(rows):
        path = folder / "set" / file
        if file == "corrupt.mrc":
            path.write_bytes(b"x" * 3000)
        elif not file.startswith("gone"):
            write_mrc(path, np.random.default_rng(number).normal(size=(16, 20, 18)).astype(np.float32))
    columns = {
        "rlnTomoName": [name for name, _ in rows],
        "rlnTomoReconstructedTomogram": [file for _, file in rows],
        "rlnTiltMin": ["-60"] * len(rows),
        "rlnTiltMax": ["60"] * len(rows),
    }
    table = folder / "set" / "t.star"
    write_blocks(table, {"": Block(columns)})
    return opened(folder / out, Batch(str(table), voxel_size=10.0, **more), preset("quick"))


def test_bad_rows_are_named_and_the_others_are_to_do(tmp_path):
    rows = [(BRACES, "a.mrc"), ("..", "gone1.mrc"), ("corrupt", "corrupt.mrc"), ("gone", "gone2.mrc"), ("TS_5", "b.mrc")]
    batch = batch_of(tmp_path, rows)
    assert batch.rows == {1: BRACES, 2: "row_2", 3: "corrupt", 4: "gone", 5: "TS_5"}
    assert [entry.name for entry in batch.entries] == [BRACES, "TS_5"]
    assert re.search(r"row 2 has the name '\.\.'", batch.problems["row_2"])
    assert "gone2.mrc does not exist" in batch.problems["gone"]
    assert [(s.name, s.state) for s in statuses(batch)] == [
        ("model", "waiting"), (BRACES, "waiting"), ("row_2", "failed"), ("corrupt", "failed"), ("gone", "failed"),
        ("TS_5", "waiting"),
    ]  # fmt: skip
    assert refresh(batch) == ["model.trained", f"{BRACES}.restored", "TS_5.restored"]


def test_marks_have_the_numbers_of_rows(tmp_path, monkeypatch):
    from cryovae.batch import plan

    batch = batch_of(tmp_path, [("gone", "gone.mrc"), (BRACES, "a.mrc"), ("1", "b.mrc")], model="model.safetensors")
    monkeypatch.setattr(plan, "state_of", lambda batch, entry: "done")
    old = batch.out / "batch" / "marks" / "TS_1.restored"
    old.parent.mkdir(parents=True)
    old.touch()
    assert refresh(batch) == []
    assert sorted(path.name for path in old.parent.iterdir()) == ["2.restored", "3.restored"]


def test_a_row_called_by_a_number_is_not_taken_for_that_row(tmp_path):
    batch = batch_of(tmp_path, [("2", "a.mrc"), ("b", "b.mrc"), ("3", "c.mrc")])
    assert batch.named("b") == "b"
    assert batch.named("1") == "2"
    assert batch.named("3") == "3"
    assert batch.numbered(2) == "b"
    with pytest.raises(InputError, match="--number"):
        batch.named("2")
    for row in ("4", "0", "x", "²"):
        with pytest.raises(InputError, match="has no row"):
            batch.named(row)


@pytest.mark.parametrize("name", ["..", ".", "../../x", "/abs/x", "a/b"])
def test_a_missing_row_leaves_its_record_inside_the_folder(name, tmp_path):
    batch_of(tmp_path, [(name, "gone.mrc"), ("b", "b.mrc")])
    before = set(tmp_path.rglob("*"))
    done = cryovae("batch", tmp_path / "set/t.star", "-o", tmp_path / "out", "--voxel-size", "10", "--device", "cpu", "--prepare")
    assert done.returncode == 0, done.stderr
    assert "cannot be restored" in done.stderr
    new = set(tmp_path.rglob("*")) - before
    assert {path.relative_to(tmp_path).parts[0] for path in new} == {"out"}
    records = [path for path in new if path.name == "run.json"]
    assert len(records) == 1
    assert records[0].parent.parent == tmp_path / "out"
    assert json.loads(records[0].read_text())["status"] == "failed"


@pytest.mark.parametrize("name", ["model", "Model", "batch", "summary.html", "summary.csv", "t.star"])
def test_a_row_called_as_one_of_our_files_leaves_them_alone(name, tmp_path):
    batch = batch_of(tmp_path, [(name, "a.mrc"), ("row_1", "b.mrc")])
    assert batch.rows == {1: "row_1_", 2: "row_1"}
    assert "rename it" in batch.problems["row_1_"]


def test_two_rows_of_one_name_do_not_share_a_folder(tmp_path):
    batch = batch_of(tmp_path, [("a", "a.mrc"), ("a", "b.mrc"), ("a", "gone.mrc")])
    assert batch.rows == {1: "a", 2: "row_2", 3: "row_3"}
    assert "rows 1 and 2 are both a" in batch.problems["row_2"]
    assert "gone.mrc does not exist" in batch.problems["row_3"]


def test_names_in_the_summary_are_no_html(tmp_path):
    batch = batch_of(tmp_path, [("<b>&amp;\"'", "gone.mrc"), ("b", "b.mrc")])
    write_summary(batch)
    page = (batch.out / "summary.html").read_text()
    assert "&lt;b&gt;&amp;amp;&quot;" in page
    assert "<b>" not in page


@pytest.mark.parametrize("folder", ["run #2", "run: 3", "$HOME", "50%", "{x}", "it's", 'a"b', "a b", "-60", "[1]", "a=b"])
def test_no_folder_is_a_setting_that_the_engine_parses(folder, tmp_path, monkeypatch):
    commands = []

    class Ended:
        def __init__(self, command, **options):
            commands.append(command)

        def wait(self, timeout=None):
            return 0

    monkeypatch.setattr(engine.subprocess, "Popen", Ended)
    out = tmp_path / folder
    assert engine.run_workflow(out, Path("profile"), ["--cores", "1"]) == 0
    assert (out / "batch" / "logs").is_dir()
    # The path stands alone, as the working directory: not in a setting, which Snakemake reads as YAML.
    assert [word for word in commands[0] if folder in word] == [str(out / "batch")]
    assert commands[0][commands[0].index(str(out / "batch")) - 1] == "--directory"
    assert "--config" not in commands[0]


@pytest.mark.parametrize("folder", ["it's", "50%", "a\\b"])
def test_a_folder_in_which_jobs_of_a_cluster_get_lost_is_refused(folder):
    with pytest.raises(InputError, match="expected a folder without"):
        engine.check_cluster_path(Path("/data") / folder, "slurm")
    engine.check_cluster_path(Path("/data") / folder, "local")
    engine.check_cluster_path(Path("/data/run #2: $HOME {x}"), "slurm")


def test_a_step_of_a_row_and_a_number_is_refused(tmp_path):
    refused(cryovae("batch", "step", "restore", tmp_path, "--row", "a", "--number", "1"), "--number")
    refused(cryovae("batch", "step", "train", tmp_path, "--number", "1"), "every step but train")


def test_the_device_of_a_batch_is_checked_before_anything_is_written(tmp_path):
    batch_of(tmp_path, [("a", "a.mrc")])
    done = cryovae("batch", tmp_path / "set/t.star", "-o", tmp_path / "out", "--device", "meta", "--prepare")
    refused(done, "--device meta found", "auto, cpu, cuda, cuda:N or mps")
    assert not (tmp_path / "out").exists()


def test_what_the_engine_says_goes_to_a_log_and_the_rows_are_looked_at_meanwhile(tmp_path, monkeypatch, capfd):
    import sys

    real, looks = engine.subprocess.Popen, []
    script = "import time, sys; print('noise of the engine', flush=True); time.sleep(0.5); sys.exit(3)"
    monkeypatch.setattr(engine.subprocess, "Popen", lambda command, **options: real([sys.executable, "-c", script], **options))
    monkeypatch.setattr(engine, "LOOK_SECONDS", 0.05)
    assert engine.run_workflow(tmp_path, Path("profile"), [], lambda: looks.append(1)) == 3
    assert len(looks) >= 2
    assert engine.engine_log(tmp_path).read_text() == "noise of the engine\n"
    assert engine.last_words(tmp_path) == "noise of the engine"
    assert "noise" not in "".join(capfd.readouterr())
