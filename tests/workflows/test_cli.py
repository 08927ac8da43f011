"""The command line as a user has it: bad input is one line and exit code 2, nothing half-written; a small run is whole."""

import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from tests.conftest import write_mrc
from tests.helpers.cli import ALONE, RANGE, TINY, TINY_TRAIN, cryovae, process, refused

pytestmark = pytest.mark.usefixtures("undrawn")

# Samples are those of the encoder: fitting the flow takes minutes.
ENCODER = ["--sampler", "amortised"]


def _bad_inputs(folder: Path) -> dict[str, tuple[list, tuple]]:
    good = write_mrc(folder / "good.mrc", np.random.default_rng(0).normal(size=(20, 24, 28)).astype(np.float32))
    other = write_mrc(folder / "other.mrc", np.ones((20, 24, 20), dtype=np.float32))
    nan = np.ones((20, 24, 28), dtype=np.float32)
    nan[3, 4, 5] = np.nan
    (folder / "text.mrc").write_text("not a tomogram\n" * 200)
    (folder / "one.tlt").write_text("12.0\n")
    (folder / "cut.mrc").write_bytes(good.read_bytes()[:5000])
    return {
        "missing file": ([folder / "no.mrc", *RANGE], ("no.mrc", "does not exist")),
        "missing file, and no tilts": ([folder / "no.mrc"], ("no.mrc", "does not exist")),
        "text file": ([folder / "text.mrc", *RANGE], ("text.mrc", "MRC")),
        "file cut short": ([folder / "cut.mrc", *RANGE], ("cut.mrc", "cut short")),
        "halves of different shapes": (["--half1", good, "--half2", other, *RANGE], ("(20, 24, 28)", "(20, 24, 20)")),
        "one half": (["--half1", good, *RANGE], ("--half2",)),
        "the same file as both halves": (["--half1", good, "--half2", good, *RANGE], ("same voxels",)),
        "no voxel size": (
            [write_mrc(folder / "bare.mrc", np.arange(8000.0, dtype=np.float32).reshape(20, 20, 20), 0.0), *RANGE],
            ("no voxel size", "--voxel-size"),
        ),
        "NaN": ([write_mrc(folder / "nan.mrc", nan), *RANGE], ("1 voxels", "NaN")),
        "constant": ([write_mrc(folder / "flat.mrc", np.full((20, 24, 28), 7, dtype=np.float32)), *RANGE], ("7 everywhere",)),
        "one angle": ([good, "--tilts", folder / "one.tlt"], ("one.tlt", "1 tilt angle")),
        "no tilts": ([good], ("--tilts",)),
        "range the wrong way round": ([good, "--tilt-range", "60", "-60"], ("lower angle first",)),
        "unknown preset": ([good, *RANGE, "--preset", "best"], ("best", "quick")),
        "unknown setting": ([good, *RANGE, "--set", "training.stepz=3"], ("stepz", "steps")),
        "setting of the wrong type": ([good, *RANGE, "--set", 'training.steps="many"'], ("steps", "int")),
        "patch off the latent grid": ([good, *RANGE, "--patch", "30"], ("30", "multiple of 8")),
        "odd samples": ([good, *RANGE, "--samples", "3"], ("even",)),
        "no such model": ([good, *RANGE, "--model", folder / "none"], ("none", "does not exist")),
        "no such device": ([good, *RANGE, "--device", "abacus"], ("abacus",)),
    }


NAMES = [
    "missing file", "missing file, and no tilts", "text file", "file cut short", "halves of different shapes", "one half",
    "the same file as both halves",
    "no voxel size", "NaN", "constant", "one angle", "no tilts", "range the wrong way round", "unknown preset", "unknown setting",
    "setting of the wrong type", "patch off the latent grid", "odd samples", "no such model", "no such device",
]  # fmt: skip


@pytest.fixture(scope="module")
def bad_inputs(tmp_path_factory):
    return _bad_inputs(tmp_path_factory.mktemp("bad"))


@pytest.mark.parametrize("name", NAMES)
def test_bad_input_is_one_line_and_exit_code_2(name, bad_inputs, tmp_path):
    """That the process ends with the code is tested once below."""
    arguments, words = bad_inputs[name]
    refused(cryovae("restore", *arguments, "-o", tmp_path / "out"), *words)
    assert not list(tmp_path.rglob("*.mrc"))
    assert not list(tmp_path.rglob("*.part*"))


def test_every_bad_input_is_tested(bad_inputs):
    assert sorted(bad_inputs) == sorted(NAMES)


def test_the_process_ends_with_the_code(tmp_path):
    refused(process("restore", tmp_path / "no.mrc", *RANGE), "does not exist")
    assert cryovae("restore", "--bogus").returncode == 2


def test_help_is_there_within_a_second_and_without_torch():
    began = time.perf_counter()
    result = process("--help")
    assert time.perf_counter() - began < 2.0
    assert all(command in result.stdout for command in ("restore", "train", "evaluate", "simulate", "info"))
    code = "import sys; from cryovae.cli.app import app; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_a_restoration_is_whole_and_the_same_for_the_same_seed(files, tmp_path):
    """Once in a process of its own, with its pictures, and once in this one."""
    common = [
        "--half1",
        files["half1"],
        "--half2",
        files["half2"],
        "--tilts",
        files["tilts"],
        "--steps",
        "8",
        "--seed",
        "4",
        *TINY,
    ]
    for folder, run in (("one", process), ("two", cryovae)):
        result = run("restore", *common, "-o", tmp_path / folder, "--samples-out", "2")
        assert result.returncode == 0, result.stderr
        assert "ETA" in result.stderr
    out = tmp_path / "one"
    volumes = ("mean", "std", "measured", "mean_half1", "mean_half2", "sample_0", "sample_1")
    for kind in volumes:
        first, second = (mrcfile.read(tmp_path / folder / f"ts_01_{kind}.mrc") for folder in ("one", "two"))
        assert np.isfinite(first).all()
        assert np.array_equal(first, second)
        assert mrcfile.validate(out / f"ts_01_{kind}.mrc")
    for name in (
        "run.json",
        "report.html",
        "metrics.csv",
        "loss.png",
        "preview.png",
        "config.toml",
        "model.safetensors",
        "run.log",
    ):
        assert (out / name).stat().st_size > 0
    record = json.loads((out / "run.json").read_text())
    assert record["status"] == "done"
    assert record["training"]["noise"] == {"ts_01": "halves"}
    assert len(record["inputs"]["half1"]["sha256"]) == 64
    assert record["config"]["training"]["steps"] == 8
    again = cryovae("restore", *common, "-o", out)
    refused(again, "is there already", "--overwrite")
    evaluated = cryovae("evaluate", out / "ts_01_mean.mrc", "--truth", files["truth"], "--tilts", files["tilts"])
    assert evaluated.returncode == 0, evaluated.stderr
    assert all(row in evaluated.stdout for row in ("restored", "untouched input", "low-pass and clipping"))


@pytest.mark.slow
def test_one_model_for_several_tomograms_is_applied_to_another(small_files, tmp_path):
    second = write_mrc(tmp_path / "ts_02.mrc", mrcfile.read(small_files["full"])[:, ::-1].copy())
    run = tmp_path / "runs/base"
    trained = cryovae(
        "train",
        small_files["full"],
        second,
        "--tilts",
        small_files["tilts"],
        "--tilts",
        small_files["tilts"],
        "-o",
        run,
        "--steps",
        "6",
        *TINY_TRAIN,
    )
    assert trained.returncode == 0, trained.stderr
    out = tmp_path / "restored"
    for path in (small_files["full"], second):
        result = cryovae(
            "restore", path, *RANGE, "--model", run, "-o", out, "--samples", "2", "--raw", "--device", "cpu", *ENCODER
        )
        assert result.returncode == 0, result.stderr
    assert {"ts_01_mean.mrc", "ts_02_mean.mrc", "run.json", "ts_02_run.json"} <= {p.name for p in out.iterdir()}
    assert json.loads((out / "run.json").read_text())["name"] == "ts_01"
    assert json.loads((out / "run.json").read_text())["status"] == "done"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 75), (signal.SIGTERM, 75)])
def test_a_run_that_is_stopped_is_saved_and_resumed(small_files, tmp_path, number, code):
    arguments = ["restore", small_files["full"], "--tilts", small_files["tilts"], "-o", tmp_path / "out", "--steps", "40", *TINY]
    command = [sys.executable, "-m", "cryovae", *map(str, arguments)]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ALONE)
    metrics = tmp_path / "out/metrics.csv"
    for _ in range(2400):
        if metrics.exists() and len(metrics.read_text().splitlines()) > 2:
            break
        time.sleep(0.025)
    running.send_signal(number)
    _, said = running.communicate(timeout=60)
    assert running.returncode == code, said
    # The command that it names goes on from there.
    (line,) = (line for line in said.splitlines() if "go on with: " in line)
    words = shlex.split(line.partition("go on with: ")[2])
    assert words == [*command, "--resume"]
    again = words[3:]
    assert json.loads((tmp_path / "out/run.json").read_text())["status"] == "stopped"
    assert not list((tmp_path / "out").glob("*.mrc"))
    resumed = cryovae(*again)
    assert resumed.returncode == 0, resumed.stderr
    steps = [int(line.split(",")[0]) for line in metrics.read_text().splitlines()[1:]]
    assert steps == sorted(set(steps))
    assert steps[-1] == 40
    assert "resumed at step" in (tmp_path / "out/run.log").read_text()


def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(small_files, tmp_path):
    """A limit on the size of files stands for a full disk: the write fails in the middle of a volume."""
    out, run = tmp_path / "out", tmp_path / "run"
    trained = cryovae("train", small_files["full"], *RANGE, "-o", run, "--steps", "4", *TINY_TRAIN)
    assert trained.returncode == 0, trained.stderr
    result = process("restore", small_files["full"], *RANGE, "--model", run, "-o", out, "--samples", "2", *ENCODER, limit=60_000)
    assert result.returncode == 1, result.stderr
    assert "no room left on the disk" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
    assert not list(out.glob("*.mrc"))
    assert not [p for p in out.iterdir() if ".part" in p.name]
    assert json.loads((out / "run.json").read_text())["status"] == "failed"


def test_too_little_room_is_seen_before_any_work(small_files, tmp_path, monkeypatch):
    import shutil
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 1000))
    result = cryovae("restore", small_files["full"], *RANGE, "-o", tmp_path / "out", "--patch", "16")
    assert result.returncode == 1
    assert "no room left" in result.stderr
    assert not (tmp_path / "out/run.json").exists()


def test_a_full_range_of_tilts_is_denoised_and_says_so(small_files, tmp_path):
    result = cryovae("restore", small_files["full"], "--tilt-range", "-90", "90", "-o", tmp_path / "out", "--steps", "6", *TINY)
    refused(result, "expected no missing wedge", "--force")
    words = ["restore", small_files["full"], "--tilt-range", "-90", "90", "-o", tmp_path / "out", "--steps", "6", *TINY]
    result = cryovae(*words, "--force")
    assert result.returncode == 0, result.stderr
    assert "no wedge" in result.stderr
    assert "denoised only" in result.stderr
    assert np.isfinite(mrcfile.read(tmp_path / "out/ts_01_mean.mrc")).all()


def test_integers_thin_volumes_and_origins_come_through(tmp_path):
    density = np.random.default_rng(2).integers(0, 255, (12, 40, 36)).astype(np.int16)
    path = write_mrc(tmp_path / "thin.mrc", density, 10.52)
    with mrcfile.open(path, mode="r+") as mrc:
        mrc.header.origin = (1.0, 2.0, 3.0)
    result = cryovae("restore", path, "--tilt-range", "-64", "56", "-o", tmp_path / "out", "--steps", "6", *TINY)
    assert result.returncode == 0, result.stderr
    with mrcfile.open(tmp_path / "out/thin_mean.mrc") as mrc:
        assert mrc.data.shape == density.shape
        assert float(mrc.voxel_size.x) == pytest.approx(10.52)
        assert tuple(mrc.header.origin.tolist()) == (1, 2, 3)
        assert abs(float(mrc.data.mean()) - density.mean()) < 0.2 * density.std()


def test_simulate_and_info(tmp_path):
    made = cryovae(
        "simulate", "-o", tmp_path, "--shape", "48", "64", "56", "--tilt-range", "-50", "62", "--seed", "2", "--snr", "1"
    )
    assert made.returncode == 0, made.stderr
    kinds = ("_full.mrc", "_half1.mrc", "_half2.mrc", "_truth.mrc", "_density.mrc", "_tilts.mrc", ".tlt", "_molecules.star")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"simulated{kind}" for kind in kinds)
    assert "reconstruction" in made.stderr
    shown = cryovae("info", tmp_path / "simulated_half1.mrc", "--tilts", tmp_path / "simulated.tlt")
    assert shown.returncode == 0, shown.stderr
    assert "48 x 64 x 56" in shown.stdout
    rotated = cryovae("info", tmp_path / "simulated_half1.mrc", "--tilt-range", "-62", "50")
    assert "mirror image of the range given, expected -62 to 50, as given: pass --handedness -1" in rotated.stdout
    assert "warning" not in shown.stdout
    refused(cryovae("simulate", "-o", tmp_path), "is there already")


def test_simulate_an_ideal_wedge(tmp_path):
    made = cryovae("simulate", "-o", tmp_path, "--acquisition", "ideal", "--shape", "32", "40", "36", "--name", "a")
    assert made.returncode == 0, made.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tlt", "a_half1.mrc", "a_half2.mrc", "a_truth.mrc"]
