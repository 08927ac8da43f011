"""A run records how long each of its phases took."""

import json
from pathlib import Path


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
