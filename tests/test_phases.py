"""Where the time of a run went."""

import pytest

from cryovae import phases
from cryovae.phases import Phases, duration


class _Clock:
    now = 0.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = _Clock()
    monkeypatch.setattr(phases, "time", clock)
    return clock


def test_a_phase_within_another_counts_for_itself_alone(clock):
    phase = Phases()
    with phase("preparing"):
        clock.now += 2
        with phase("training"):
            clock.now += 10
            with phase("refilling"):
                clock.now += 3
            with phase("refilling"):
                clock.now += 4
            clock.now += 1
        clock.now += 5
    assert phase.seconds == {"preparing": 7, "training": 11, "refilling": 7}
    assert list(phase.seconds) == ["preparing", "training", "refilling"]


def test_a_phase_that_fails_is_counted(clock):
    phase = Phases()

    def failing():
        with phase("means"):
            clock.now += 4
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        failing()
    with phase("means"):
        clock.now += 1
    assert phase.seconds == {"means": 5}


def test_the_sentence_leaves_out_what_took_no_second():
    phase = Phases()
    phase.add({"preparing": 0.3, "training": 756.0, "means": 8.2})
    assert phase.sentence() == "training 12 min 36 s, means 8 s; 12 min 44 s in all"
    assert Phases().sentence() == "0 s in all"


@pytest.mark.parametrize(("seconds", "said"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (756, "12 min 36 s"), (11100, "3 h 5 min")])
def test_durations_are_read_at_once(seconds, said):
    assert duration(seconds) == said
