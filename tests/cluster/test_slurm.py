"""A batch on a real Slurm: two jobs at a time, what is damaged stops nobody, nothing is computed twice, jobs are requeued."""

import csv
import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from cryovae.batch.engine import PROFILES
from tests.cluster.conftest import DAMAGED, cryovae, make_set, set_voxel

pytestmark = [pytest.mark.slow, pytest.mark.slurm]
SITE = 'partition = "gpu"\ncpus = 1\nmemory_gb = 0.9\ntrain_hours = 0.2\nrestore_hours = 0.2\nwarning_seconds = 60\n'
RESTORED = ("TS_1", "TS_2", "TS_4")


@pytest.fixture(scope="module")
def tomograms(tmp_path_factory):
    # No part of a folder's name may be read as anything but a name.
    folder = tmp_path_factory.mktemp("set") / "run #2: $HOME {x}"
    folder.mkdir()
    (folder / "site.toml").write_text(SITE)
    return make_set(folder)


@pytest.fixture(scope="module")
def words(tomograms, tmp_path_factory):
    """A batch on Slurm as a user asks for it; the queue is looked at more often than would be polite elsewhere."""
    profile = tmp_path_factory.mktemp("profile")
    text = (PROFILES / "slurm/config.yaml").read_text()
    (profile / "config.yaml").write_text(text.replace("status-checks: 20", "status-checks: 1"))
    options = ["--profile", profile, "--site", tomograms.with_name("site.toml"), "--config", tomograms.with_name("tiny.toml")]
    return [tomograms, "-o", tomograms.with_name("out"), *options, "--preset", "quick"]


@pytest.fixture(scope="module")
def first(slurm, words):
    """The batch as it is at first, and what was said."""
    return cryovae("batch", *words, env=slurm.env, check=False)


def _record(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text())


def _states(out: Path) -> dict[str, dict[str, str]]:
    with (out / "summary.csv").open(newline="") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def test_what_can_be_restored_is_and_what_failed_says_why(first, tomograms):
    out = tomograms.with_name("out")
    assert first.returncode == 1, first.stdout + first.stderr
    states = _states(out)
    assert {name: row["state"] for name, row in states.items()} == {
        "model": "done", "TS_1": "done", "TS_2": "done", "TS_3": "failed", "TS_4": "done",
    }  # fmt: skip
    assert "NaN" in states[DAMAGED]["why"]
    assert float(states["TS_1"]["measured"]) > 0
    assert "3 done, 1 failed" in first.stdout
    assert list(_record(out / "model")["left_out"]) == [DAMAGED]
    page = (out / "summary.html").read_text()
    assert all(f'href="{name}/report.html"' in page for name in RESTORED)
    log = (out / "batch/logs/model.train.log").read_text()
    assert "\r" not in log
    assert "training 60/60" in log


def test_two_gpus_give_two_jobs_at_a_time_each_with_its_own(first, slurm, tomograms):
    out = tomograms.with_name("out")
    jobs = {}
    for name in RESTORED:
        process = _record(out / name)["process"]
        about = slurm.job(process["slurm_job_id"])
        jobs[name] = (about["StartTime"], about["EndTime"], process["cuda_visible_devices"])
    simultaneous = [
        (one, other)
        for one, (began, ended, _) in jobs.items()
        for other, (start, end, _) in jobs.items()
        if one < other and began < end and start < ended
    ]
    assert simultaneous, jobs
    assert all(jobs[one][2] != jobs[other][2] for one, other in simultaneous), jobs
    assert {gpu for _, _, gpu in jobs.values()} == {"0", "1"}


def test_a_requeued_job_ends_with_the_weights_of_one_that_was_not(first, slurm, tomograms, words, tmp_path):
    """restore.sbatch, task 0; SIGTERM as Slurm sends it when it pre-empts a job, and the queue again."""
    out = tmp_path / "out"
    cryovae("batch", *(out if word == tomograms.with_name("out") else word for word in words), "--prepare")
    # An installed cryovae is on the path of a job.
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    (bin_folder / "cryovae").symlink_to(Path(sys.executable).parent / "cryovae")
    script = Path(__file__).parents[2] / "pipelines/restore.sbatch"
    export = f"--export=ALL,PATH={bin_folder}:{slurm.env['PATH']},OMP_NUM_THREADS=1"
    small = ["--cpus-per-task=1", "--mem=900M", "--time=10", "--array=0", f"--output={tmp_path}/%A_%a.log", export]
    job = slurm.run("sbatch", "--parsable", *small, str(script), str(out)).strip()
    metrics = out / "model/metrics.csv"
    _wait(lambda: metrics.exists() and len(metrics.read_text().splitlines()) > 2)
    slurm.run("scontrol", "requeue", f"{job}_0")
    _wait(lambda: slurm.job(f"{job}_0")["JobState"] == "PENDING")
    assert _record(out / "model")["status"] == "stopped"
    assert not (out / "model/model.safetensors").exists()
    # Slurm holds what is requeued for two minutes.
    slurm.run("scontrol", "update", f"JobId={job}_0", "StartTime=now")
    _wait(lambda: slurm.job(f"{job}_0")["JobState"] in ("COMPLETED", "FAILED"))
    log = (tmp_path / f"{job}_0.log").read_text()
    assert slurm.job(f"{job}_0")["JobState"] == "COMPLETED", log
    assert _record(out / "model")["process"]["slurm_restart_count"] == "1"
    assert "resumed at step" in (out / "model/run.log").read_text()
    weights, expected = (load_file(folder / "model/model.safetensors") for folder in (out, tomograms.with_name("out")))
    assert weights.keys() == expected.keys()
    assert all(np.array_equal(weights[name], expected[name]) for name in expected)


def test_what_was_mended_is_computed_and_nothing_else(first, slurm, tomograms, words):
    out = tomograms.with_name("out")
    before = {path: path.stat().st_mtime_ns for name in (*RESTORED, "model") for path in (out / name).iterdir()}
    set_voxel(tomograms.with_name(f"{DAMAGED}.mrc"), 0.0)
    known = set(slurm.jobs())
    again = cryovae("batch", *words, env=slurm.env)
    assert f"to do: {DAMAGED}.restored\n" in again.stdout
    assert len(set(slurm.jobs()) - known) == 1
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert _record(out / DAMAGED)["status"] == "done"
    assert "4 tomograms: 4 done" in again.stdout
    assert (out / f"{DAMAGED}/{DAMAGED}_mean.mrc").exists()


def _wait(there, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.2)
