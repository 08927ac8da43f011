"""cryovae demo: from nothing to a scored restoration, once; the report is opened only if asked for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import cryovae.simulation.simulate as simulation
from tests.helpers.cli import cryovae
from tests.workflows.conftest import save_one_pixel

SHAPE = (24, 36, 32)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that a browser was asked to open. The sample is a tenth as large; the base passes its trial on it."""
    addresses: list[str] = []
    save_one_pixel(monkeypatch)
    monkeypatch.setattr("webbrowser.open", addresses.append)
    monkeypatch.setattr(simulation, "SAMPLE", replace(simulation.SAMPLE, shape=SHAPE, seed=1))
    return addresses


def test_the_demonstration_restores_scores_and_opens_nothing_unasked(tmp_path: Path, opened: list[str]) -> None:
    out = tmp_path / "demo"
    first = cryovae("demo", "-o", out, "--threads", "1")
    assert first.returncode == 0, first.stderr
    assert "low-pass and clipping" in first.stdout
    assert f"open {out / 'report.html'} in a browser" in first.stdout
    assert "truth" in (out / "report.html").read_text()
    assert json.loads((out / "run.json").read_text())["status"] == "done"
    assert opened == []
    before = (out / "sample_mean.mrc").stat().st_mtime_ns
    again = cryovae("demo", "-o", out, "--open")
    assert again.returncode == 0, again.stderr
    assert opened == [(out / "report.html").resolve().as_uri()]
    assert (out / "sample_mean.mrc").stat().st_mtime_ns == before


def test_a_folder_that_cannot_be_written_is_refused_before_work(tmp_path: Path, opened: list[str]) -> None:
    (tmp_path / "demo").write_text("a file\n")
    result = cryovae("demo", "-o", tmp_path / "demo")
    assert result.returncode == 2
    assert len(result.stderr.strip().splitlines()) == 1
