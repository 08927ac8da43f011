"""What remains is said from the pace of the work that is counted, not from what came before it."""

import pytest

from cryovae.progress import watch as progress


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
