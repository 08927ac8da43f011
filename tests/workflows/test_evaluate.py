"""Evaluation of the files of a restoration: what is looked for beside them, and what is written."""

import json

import mrcfile
import numpy as np
import pytest
from typer.testing import CliRunner

from cryovae.workflows.run_folder import metrics_of
from tests.conftest import write_mrc
from tests.helpers.held_out import HELD_OUT


@pytest.fixture
def restored(files, simulation, tmp_path, undrawn):
    """A folder as restore leaves it, with a second tomogram's record beside the first."""
    out = tmp_path / "out"
    out.mkdir()
    for name, prefix in (("ts_01", ""), ("ts_02", "ts_02_")):
        write_mrc(out / f"{name}_mean.mrc", simulation.truth.numpy())
        write_mrc(out / f"{name}_std.mrc", np.full(simulation.truth.shape, 0.3, dtype=np.float32))
        inputs = {role: {"path": str(files[role]), "sha256": "-"} for role in ("half1", "half2", "tilts")}
        record = {"name": name, "inputs": inputs, "restoration": {"held_out": HELD_OUT}}
        (out / f"{prefix}run.json").write_text(json.dumps(record))
    return out


def evaluate(*arguments):
    from cryovae.cli.app import app

    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def test_evaluate_needs_neither_truth_nor_tilts_where_a_record_names_them(restored, files):
    result = evaluate(restored / "ts_01_mean.mrc")
    assert result.exit_code == 0, result.output
    assert "with the truth" not in result.stdout
    assert "0.62 of at most 0.71" in (restored / "report.html").read_text()
    second = evaluate(restored / "ts_02_mean.mrc", "--truth", files["truth"], "--json", restored / "figures.json", "--no-shells")
    assert second.exit_code == 0, second.output
    assert (restored / "ts_02_report.html").exists()
    assert all(wanted in second.stdout for wanted in ("by direction", "CRPS", "FSC 0.143"))
    figures = json.loads((restored / "figures.json").read_text())
    assert figures["truth"].endswith("truth.mrc")
    assert figures["tilts"] == [-60, 60]
    assert figures["against_truth"][0]["wedge"]["band"] == pytest.approx(1)
    assert figures["held_out"] == HELD_OUT
    assert [row["name"] for row in figures["halves"]] == ["untouched input", "low-pass and clipping"]


def test_the_report_is_written_to_the_path_that_is_named(restored, tmp_path):
    where = tmp_path / "elsewhere/r.html"
    result = evaluate(restored / "ts_01_mean.mrc", "--report", where)
    assert result.exit_code == 0, result.output
    assert where.read_text().endswith("</html>\n")
    assert not (restored / "report.html").exists()


def test_a_volume_without_a_record_needs_its_tilts_and_says_so(restored, files, tmp_path):
    alone = write_mrc(tmp_path / "alone_mean.mrc", mrcfile.read(restored / "ts_01_mean.mrc"))
    refused = evaluate(alone)
    assert refused.exit_code == 2
    assert "--tilts" in refused.stderr
    other = write_mrc(tmp_path / "other.mrc", np.zeros((20, 20, 20), dtype=np.float32))
    assert "same shape" in evaluate(alone, "--tilt-range", "-60", "60", "--truth", other).stderr
    accepted = evaluate(alone, "--tilt-range", "-60", "60", "--truth", files["truth"])
    assert accepted.exit_code == 0, accepted.output
    assert "no baselines" in accepted.stderr
    assert (tmp_path / "alone_report.html").exists()


def test_the_metrics_are_those_of_the_model_that_was_restored_with(tmp_path):
    for name in ("run", "out"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.csv").write_text(f"step,kl\n1,{len(name)}\n")
    assert metrics_of({"model": None}, tmp_path / "out/metrics.csv")[0]["kl"] == "3"
    assert metrics_of({"model": str(tmp_path / "run")}, tmp_path / "none.csv")[0]["kl"] == "3"
    (tmp_path / "run/metrics.csv").unlink()
    assert metrics_of({"model": str(tmp_path / "run")}, tmp_path / "out/metrics.csv") == []
