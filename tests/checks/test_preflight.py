"""The checks before work: each command calls them, keeps what they find, and goes on only if it may."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import cryovae as package
from cryovae.checks import preflight
from cryovae.errors import InputError
from cryovae.findings import Finding, Severity
from cryovae.io.files import write_volume
from tests.helpers.cli import RANGE, TINY, TINY_TRAIN, cryovae, refused


@pytest.fixture
def refusing(monkeypatch):
    """A check that refuses every tomogram."""

    def check(tomogram):
        return [Finding("test", Severity.REFUSAL, f"{tomogram.name}: <b>wrong</b>", "something right", "mend it")]

    monkeypatch.setattr(preflight, "CHECKS", (check,))


@pytest.fixture
def volume(tmp_path):
    path = tmp_path / "ts.mrc"
    write_volume(path, np.random.default_rng(0).normal(size=(20, 24, 28)).astype(np.float32), None, 10.0, "")
    return path


def test_restore_stops_before_work_at_a_refusal(refusing, volume, tmp_path):
    refused(cryovae("restore", volume, "-o", tmp_path / "out", *RANGE, *TINY), "ts: <b>wrong</b>, expected something right: mend")
    assert not list((tmp_path / "out").glob("*"))


def test_train_stops_before_work_at_a_refusal(refusing, volume, tmp_path):
    refused(cryovae("train", volume, "-o", tmp_path / "out", *RANGE, *TINY_TRAIN, "--steps", 2), "mend it")
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.slow
def test_what_was_forced_is_in_record_log_and_report(refusing, volume, tmp_path):
    out = tmp_path / "out"
    result = cryovae("restore", volume, "-o", out, *RANGE, *TINY, "--steps", 2, "--force")
    assert result.returncode == 0, result.stderr
    assert "warning (forced): ts:" in result.stderr
    record = json.loads((out / "run.json").read_text())
    assert record["force"] is True
    assert [(one["check"], one["severity"], one["forced"]) for one in record["findings"]] == [("test", "warning", True)]
    assert "warning (forced): ts:" in (out / "run.log").read_text()
    assert "warning (forced): ts: &lt;b&gt;wrong&lt;/b&gt;, expected something right" in (out / "report.html").read_text()


def test_info_prints_the_findings(refusing, volume):
    result = cryovae("info", volume, *RANGE)
    assert result.returncode == 0
    assert "refusal       ts: <b>wrong</b>, expected something right: mend it" in result.stdout


def test_the_functions_of_the_package_check_too(refusing, volume, tmp_path):
    tomogram = package.read_tomogram(volume, tilts=(-60, 60))
    with pytest.raises(InputError, match="mend it"):
        package.train(tomogram, preset="quick", steps=2, patch=16)
    with pytest.raises(InputError, match="mend it"):
        package.restore(tomogram, tmp_path / "model")


def test_tilts_with_the_wrong_sign_stop_every_command_before_work(tmp_path):
    """Measured from -42 to 63 degrees, and said to be from -63 to 42."""
    tomogram, _ = package.simulate(shape=(32, 48, 40), tilt_range=(-42, 63), seed=1)
    path = tmp_path / "ts.mrc"
    write_volume(path, tomogram.density, None, 10.0, "")
    wrong, right = ("--tilt-range", -63, 42), ("--tilt-range", -42, 63)
    for command, settings in (("restore", TINY), ("train", TINY_TRAIN)):
        refused(
            cryovae(command, path, "-o", tmp_path / command, *wrong, *settings), "mirror image", "pass --handedness -1", "--force"
        )
        assert not list((tmp_path / command).glob("*"))
    assert "refusal       ts: the spectrum shows tilts from" in cryovae("info", path, *wrong).stdout
    assert "refusal" not in cryovae("info", path, *right).stdout
    mirrored = replace(tomogram, tilts=tomogram.tilts.mirrored())
    assert [one.severity for one in preflight.check_tomogram(mirrored)] == [Severity.REFUSAL]
    assert preflight.check_tomogram(tomogram) == []
