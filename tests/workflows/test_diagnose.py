"""cryovae diagnose: a folder of a restoration with a ladder that was not trained stands for a run."""

import json

import pytest
import torch
from typer.testing import CliRunner

from cryovae.cli.app import app
from cryovae.models.ladder import Ladder
from cryovae.models.ladder_config import LadderConfig
from tests.helpers.runs import make_run, refused

QUICK = ["--patches", 2, "--device", "cpu", "--threads", "1"]
pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture(autouse=True)
def _little(monkeypatch):
    """A corner of the plane, and a few patches for the spectra."""
    monkeypatch.setattr("cryovae.evaluation.diagnosis.place.MAX_TILES", 2)
    monkeypatch.setattr("cryovae.evaluation.diagnosis.patches.SPECTRUM_PATCHES", 4)


@pytest.fixture
def run(tmp_path, ladder, small):
    return make_run(tmp_path / "run", tmp_path, ladder, small)


def diagnose(*arguments):
    result = CliRunner().invoke(app, ["diagnose", *map(str, arguments)])
    torch.set_num_threads(1)
    return result


def test_the_figures_are_printed_and_written(run):
    result = diagnose(run, *QUICK, "--steps", 2, "--draws", 4, "--temperatures", 1)
    assert result.exit_code == 0, result.output
    assert all(word in result.stdout for word in ("bound of q", "bound of r", "Gaussian of the same spectrum", "TRAINED ON"))
    record = json.loads((run / "diagnosis.json").read_text())
    assert (run / "diagnosis.png").stat().st_size > 0
    assert record["q"]["bound"]["mean"] == pytest.approx(-record["q"]["distortion"]["mean"] - record["q"]["rate"]["mean"])
    assert [level["stride"] for level in record["levels"]["q"]] == [4, 2, 1]
    assert [len(level["nats_by_channel"]) for level in record["levels"]["r"]] == [4, 3, 2]
    # 16^3 with three small levels is small enough for annealing.
    assert len(record["gaps"]["evidence"]["nats"]) == 2
    refused(diagnose(run, *QUICK), "is there already", "--overwrite")


def test_an_untrained_model_is_reported_to_have_learned_nothing(tmp_path, small, monkeypatch):
    monkeypatch.setattr("cryovae.evaluation.diagnosis.small.MAX_LATENTS", 0)
    torch.manual_seed(0)
    run = make_run(tmp_path / "run", tmp_path, Ladder(LadderConfig((4, 6, 8), (2, 0, 4), 1)), small)
    result = diagnose(run, *QUICK, "--steps", 1, "--draws", 2, "--temperatures", 1)
    assert result.exit_code == 0, result.output
    said = " ".join(result.stdout.split())
    assert "learned nothing beyond the power spectrum" in said
    assert "level at stride 4: collapsed" in said
    assert "level at stride 1: collapsed" in said
    assert "stride 2:" not in said


def test_a_rate_distortion_curve_goes_on_where_it_stopped(run):
    common = [run, "--rate-distortion", *QUICK, "--steps", 2, "--draws", 2]
    first = diagnose(*common, "--beta", 1)
    assert first.exit_code == 0, first.output
    kept = json.loads((run / "rate_distortion.json").read_text())["points"]["1"]
    both = diagnose(*common, "--beta", 0, "--beta", 1)
    assert both.exit_code == 0, both.output
    assert "beta 1 is there already" in both.stdout
    points = json.loads((run / "rate_distortion.json").read_text())["points"]
    assert set(points) == {"0", "1"}
    assert points["1"] == kept
    assert points["0"]["rate"] != kept["rate"]
    assert (run / "rate_distortion.png").stat().st_size > 0
    refused(diagnose(*common, "--seed", 7), "seed 0", "--overwrite")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--patches", 1], ("--patches 1",)),
        (["--steps", 0], ("--steps 0",)),
        (["--draws", 1], ("--draws 1",)),
        (["--beta", 2], ("--rate-distortion",)),
        (["--rate-distortion", "--beta", -1], ("--beta -1",)),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(run, arguments, words):
    refused(diagnose(run, *arguments), *words)
    assert not (run / "diagnosis.json").exists()
