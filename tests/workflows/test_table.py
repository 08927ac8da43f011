"""Tables on the command line: what is missing stops everything before it begins; one model for tomograms that differ."""

import json
from dataclasses import replace

import mrcfile
import numpy as np
import pytest
from typer.testing import CliRunner

from cryovae.cli.app import app
from cryovae.io.star.table import read_blocks
from cryovae.simulation.simulate import SimulationConfig, simulate
from tests.conftest import write_mrc

TINY = ["--set", "restoration.sampler=amortised",
    "--set", "ladder.widths=[4,6,8]", "--set", "ladder.latents=[2,3,4]", "--set", "ladder.blocks=1", "--patch", "16",
    "--set", "training.validate_every=10", "--device", "cpu", "--threads", "1",
]  # fmt: skip
pytestmark = pytest.mark.usefixtures("undrawn")
RANGES, SIZES = ((-60.0, 60.0), (-45.0, 63.0), (-52.0, 50.0)), (10.0, 13.0, 8.0)


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Three tomograms of different ranges, voxel sizes and shapes, as halves, single volume and halves, in IsoNet2's columns."""
    folder = tmp_path_factory.mktemp("table")
    config = SimulationConfig(shape=(24, 36, 32))
    rows = []
    for number, (tilts, size) in enumerate(zip(RANGES, SIZES, strict=True), 1):
        made = simulate(replace(config, shape=(24, 32 + 4 * number, 32), tilt_range=tilts, voxel_size=size, seed=number))
        halves = made.half1.numpy(), made.half2.numpy()
        if number == 2:
            write_mrc(folder / "TS_2.mrc", (halves[0] + halves[1]) / 2, size)
            volumes = "TS_2.mrc None None"
        else:
            for name, half in zip(("EVN", "ODD"), halves, strict=True):
                write_mrc(folder / f"TS_{number}_{name}.mrc", half, size)
            volumes = f"TS_{number} TS_{number}_EVN.mrc TS_{number}_ODD.mrc"
        rows.append(f"{volumes} {size:.1f} {tilts[0]:g} {tilts[1]:g}")
    columns = ["rlnTomoName", "rlnTomoReconstructedTomogramHalf1", "rlnTomoReconstructedTomogramHalf2"]
    columns += ["rlnPixelSize", "rlnTiltMin", "rlnTiltMax"]
    head = ["data_", "", "loop_", *(f"_{name} #{i}" for i, name in enumerate(columns, 1))]
    path = folder / "tomograms.star"
    path.write_text("\n".join([*head, *rows]) + "\n")
    return path


@pytest.mark.parametrize("command", ["train", "restore"])
def test_a_missing_file_in_row_3_stops_it_before_row_1_begins(table, tmp_path, command):
    odd = table.with_name("TS_3_ODD.mrc")
    kept = odd.read_bytes()
    odd.unlink()
    try:
        result = run(command, table, "-o", tmp_path / "out", "--steps", "2", *TINY)
    finally:
        odd.write_bytes(kept)
    assert result.exit_code == 2
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1
    assert "row 3" in lines[0]
    assert "TS_3_ODD.mrc does not exist" in lines[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["restore", "TABLE", "--tilts", "a.tlt"], "--tilts found with a table"),
        (["train", "TABLE", "other.mrc", "--tilt-range", "-60", "60"], "expected one .star alone"),
        (["restore", "none.star"], "does not exist"),
    ],
)
def test_what_does_not_go_with_a_table_is_refused(table, tmp_path, words, said):
    result = run(*(table if word == "TABLE" else word for word in words), "-o", tmp_path / "out", *TINY)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_one_model_is_trained_on_three_tomograms_and_restores_them(table, tmp_path):
    before, out = table.read_text(), tmp_path / "out"
    words = ["restore", table, "-o", out, "--steps", "30", "--samples", "2", *TINY]
    first = run(*words)
    assert first.exit_code == 0, first.output
    assert "voxel sizes differ, from 8 (TS_3) to 13 angstrom (TS_2)" in first.stderr
    assert table.read_text() == before
    record = json.loads((out / "model/run.json").read_text())
    assert record["training"]["noise"].keys() == {"TS_1", "TS_2", "TS_3"}
    assert not (out / "model/memmap").exists()
    rows = read_blocks(out / "tomograms.star")[""]
    assert rows.columns["rlnCorrectedTomoName"] == tuple(f"TS_{i}/TS_{i}_mean.mrc" for i in (1, 2, 3))
    assert rows.columns["crvRestoredHalf1"] == ("TS_1/TS_1_mean_half1.mrc", "None", "TS_3/TS_3_mean_half1.mrc")
    for number, size in enumerate(SIZES, 1):
        with mrcfile.open(out / f"TS_{number}/TS_{number}_mean.mrc") as mrc:
            assert mrc.data.shape == (24, 32 + 4 * number, 32)
            assert np.isfinite(mrc.data).all()
            assert float(mrc.voxel_size.x) == pytest.approx(size)
        tilts = json.loads((out / f"TS_{number}/run.json").read_text())["tilts"]
        assert (tilts["lowest"], tilts["highest"]) == RANGES[number - 1]
    # The same again does nothing, but for the row that was broken off.
    (out / "TS_2/TS_2_std.mrc").unlink()
    stamp = (out / "TS_1/TS_1_mean.mrc").stat().st_mtime_ns
    again = run(*words)
    assert again.exit_code == 0, again.output
    assert again.stdout.count("skipped") == 2
    assert (out / "TS_2/TS_2_std.mrc").exists()
    assert (out / "TS_1/TS_1_mean.mrc").stat().st_mtime_ns == stamp
    other = run(*(word if word != "2" else "4" for word in words))
    assert other.exit_code == 2
    assert "with other settings or from other data: pass --overwrite" in other.stderr


def test_a_table_whose_model_goes_on_is_restored_anew(table, tmp_path):
    """After --resume with more steps every row is of the new model; the same command once more changes nothing."""
    words = "restore", table, "-o", tmp_path / "out", "--samples", "2", *TINY
    assert run(*words, "--steps", "2").exit_code == 0
    before = {n: mrcfile.read(tmp_path / f"out/TS_{n}/TS_{n}_mean.mrc") for n in (1, 2, 3)}
    more = run(*words, "--steps", "4", "--resume")
    assert more.exit_code == 0, more.stderr
    assert all(np.abs(mrcfile.read(tmp_path / f"out/TS_{n}/TS_{n}_mean.mrc") - mean).max() > 0 for n, mean in before.items())
    marks = {json.loads((tmp_path / f"out/TS_{n}/run.json").read_text())["model_sha256"] for n in (1, 2, 3)}
    assert len(marks) == 1
    again = run(*words, "--steps", "4", "--resume")
    assert again.exit_code == 0, again.stderr
    assert again.stdout.count("done before, skipped") == 3


def test_rows_of_the_time_before_samples_were_kept_are_done(table, tmp_path):
    words = "restore", table, "-o", tmp_path / "out", "--samples", "2", "--steps", "2", *TINY
    assert run(*words, "--samples-out", "0").exit_code == 0
    again = run(*words)
    assert again.exit_code == 0, again.stderr
    assert again.stdout.count("done before, skipped") == 3
