"""One display over all phases: what it says, and that it is never silent for long."""

import re

import pytest

from cryovae.phases import Phases, announced
from cryovae.progress.display import SECONDS, Display, current
from cryovae.progress.estimate import Task
from cryovae.progress.watch import Watch

LINE = re.compile(r"^\d\d:\d\d:\d\d (.+)$")
# As the window in napari reads it.
COUNTED = re.compile(r"^\d\d:\d\d:\d\d (.+?) (\d+)/(\d+) .*ETA (\S+)$")


class _Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return _Clock()


def said(capsys):
    return [match[1] for line in capsys.readouterr().err.splitlines() if (match := LINE.match(line))]


def test_a_phase_that_reports_nothing_is_named_again_and_again(clock, capsys):
    with Display(clock, background=False) as display:
        display.expect([Task("calibration", 100), Task("report", 20, stage=1)], 1.0)
        with announced("calibration"):
            for _ in range(90):
                clock.now += 1
                display.beat()
    lines = said(capsys)
    assert lines[0] == "expected: calibration 1 min 40 s, report 20 s; about 2 min 0 s in all"
    assert len(lines) == 1 + 90 // SECONDS
    assert lines[1] == "calibration, 15 s since the start ETA 0:01:45"
    assert all(line.startswith("calibration, ") for line in lines[1:])


def test_a_thread_says_it_where_the_work_itself_says_nothing(capsys, monkeypatch):
    import time

    from cryovae.progress import display as module

    monkeypatch.setattr(module, "SECONDS", 0.05)
    monkeypatch.setattr(module, "LOOK", 0.02)
    with Display(), announced("report"):
        for _ in range(100):
            time.sleep(0.02)
            if capsys.readouterr().err.count("report, 0 s since the start"):
                break
        else:
            pytest.fail("nothing was said in 2 s")


def test_what_is_counted_is_shown_with_the_eta_of_the_whole_run(clock, capsys):
    with Display(clock, background=False) as display:
        display.expect([Task("training", 100), Task("report", 1000, stage=1)], 1.0)
        with Phases()("training"), Watch("training", 200) as watch:
            for step in range(1, 201):
                clock.now += 0.5
                watch.update(step, "gain 0.1")
    lines = said(capsys)
    assert lines[-1].startswith("training 200/200 gain 0.1 ETA 0:16:")
    assert all(COUNTED.match(f"12:00:00 {line}") for line in lines[1:])
    assert len(lines) == pytest.approx(100 / SECONDS + 2, abs=1)


def test_the_phase_within_what_is_counted_is_named(clock, capsys):
    with Display(clock, background=False) as display:
        display.expect([Task("restoring", 100)], 1.0)
        with announced("restoring"), Watch("restoring, patches", 40) as watch, announced("halves"):
            clock.now = 50.0
            watch.update(20)
    line = said(capsys)[-1]
    assert line.startswith("restoring (halves), patches 20/40 ")
    assert COUNTED.match(f"12:00:00 {line}")[1].split(",")[0] == "restoring (halves)"


def test_without_a_plan_the_eta_is_that_of_what_is_counted(clock, capsys):
    with Display(clock, background=False), Watch("training", 100) as watch:
        watch.update(1)
        clock.now = 20.0
        watch.update(11)
    assert said(capsys)[-1] == "training 11/100  ETA 0:02:58"


def test_a_display_within_another_says_nothing_of_its_own(clock, capsys):
    with Display(clock, background=False) as outer:
        with Display(clock, background=False):
            assert current() is outer
        assert current() is outer
        outer.expect([Task("a", 10)], 1.0)
        assert outer.has_plan
        # The plan of a table stands above those of its rows.
        outer.expect([Task("b", 99)], 1.0)
    assert current() is None
    assert len(said(capsys)) == 1


def test_a_preliminary_plan_is_not_said_and_gives_way(clock, capsys):
    with Display(clock, background=False) as display, announced("checking the input"):
        display.expect([Task("checking the input", 30), Task("report", 50, stage=1)], 1.0, preliminary=True)
        assert not display.has_plan
        clock.now = 20.0
        display.beat()
        display.expect([Task("training", 500), Task("report", 50, stage=1)], 1.0)
        assert display.has_plan
    lines = said(capsys)
    assert lines[0] == "checking the input, 20 s since the start ETA 0:01:00"
    assert lines[1].startswith("expected: training 8 min 20 s, report 50 s")


def test_a_run_that_fails_leaves_no_display(clock):
    def failing():
        with Display(clock, background=False), announced("training"):
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        failing()
    assert current() is None
    from cryovae import phases

    assert phases.listeners == []
