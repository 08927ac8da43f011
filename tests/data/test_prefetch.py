"""Batches drawn ahead: the right one at the right time, errors where they are asked for."""

import threading

import pytest

from cryovae.data.prefetch import Prefetcher


def test_the_next_is_drawn_while_this_one_is_worked_on():
    drawn, threads = [], []

    def draw(step):
        drawn.append(step)
        threads.append(threading.current_thread())
        return step

    batches = Prefetcher(draw)
    assert batches(3, then=4) == 3
    assert batches(4, then=None) == 4
    # Nothing was to be drawn before step 5, and step 9 comes after a jump.
    assert batches(5, then=6) == 5
    assert batches(9, then=None) == 9
    batches.close()
    assert drawn == [3, 4, 5, 6, 9] or drawn == [3, 4, 5, 9]
    here = threading.current_thread()
    assert [t is here for t in threads][:3] == [True, False, True]


def test_what_goes_wrong_ahead_is_said_when_it_is_needed():
    def draw(step):
        if step == 1:
            raise OSError("the disk is gone")
        return step

    batches = Prefetcher(draw)
    assert batches(0, then=1) == 0
    with pytest.raises(OSError, match="the disk is gone"):
        batches(1, then=2)
    batches.close()
