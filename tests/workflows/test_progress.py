"""What remains is said from the pace of the work that is counted, not from what came before it."""

import json
from pathlib import Path

import pytest

from cryovae.workflows import progress


def test_what_comes_before_the_first_part_is_no_measure_of_the_rest(monkeypatch, capsys):
    """A calibration of a quarter of an hour, then a tile a second."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.Watch("restoring, tiles", 1) as watch:
        now[0] = 900.0
        for done in range(1, 41):
            watch.update(done, total=100)
            now[0] += 1.0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith("restoring, tiles 2/100  ETA 0:01:38")
    assert len(lines) == pytest.approx(40 / progress.SECONDS, abs=1)


def test_the_last_part_is_always_reported(monkeypatch, capsys):
    with progress.Watch("training", 3, 2) as watch:
        watch.update(3, "gain 0.1")
    assert capsys.readouterr().err.rstrip().endswith("training 3/3 gain 0.1 ETA 0:00:00")


def test_a_run_says_where_its_time_went(small_run: Path) -> None:
    record = json.loads((small_run / "run" / "run.json").read_text())
    spent = record["seconds_by_phase"]
    assert list(spent) == [
        "preparing",
        "training",
        "refilling",
        "opening",
        "calibration",
        "means",
        "samples",
        "writing",
        "report",
    ]
    assert all(seconds >= 0 for seconds in spent.values())
    # What is not in a phase is checking the input.
    assert 0.5 * record["seconds"] < sum(spent.values()) <= record["seconds"] + 0.5
    assert "time: " in (small_run / "run" / "run.log").read_text()
