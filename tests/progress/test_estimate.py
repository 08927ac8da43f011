"""The remaining time follows from the plan, and is corrected by what was measured."""

import pytest

from cryovae.progress.estimate import LEAST_LEFT, Estimate, Task

PLAN = [Task("preparing", 10, stage=0), Task("training", 100, stage=1), Task("restoring", 50, stage=2)]


def test_before_anything_is_done_it_is_the_plan_on_this_machine():
    assert Estimate(PLAN, 3.0).remaining() == pytest.approx(3 * 160)


def test_a_phase_that_took_twice_as_long_doubles_what_comes_after_it():
    estimate = Estimate([Task("training", 1000, stage=1), Task("restoring", 500, stage=2)])
    estimate.begin("training")
    estimate.spend("training", 2000)
    estimate.end("training")
    assert estimate.remaining() == pytest.approx(1000, rel=0.05)


def test_a_phase_that_counts_is_judged_by_its_own_pace():
    estimate = Estimate(PLAN)
    estimate.begin("training")
    estimate.spend("training", 200)
    estimate.count("training", 50, 100)
    # 200 s for a half, so 200 s more; restoring takes longer in the same measure.
    left = estimate.remaining()
    assert 200 + 50 < left < 200 + 4 * 50
    estimate.count("training", 100, 100)
    assert estimate.remaining() < 4 * 50


def test_steps_of_the_bound_take_longer_than_those_before():
    bent = Task("training", 100, bend=(0.8, 0.6))
    assert bent.work(0.8) == pytest.approx(0.6)
    assert bent.work(0.4) == pytest.approx(0.3)
    assert bent.work(0.9) == pytest.approx(0.8)
    assert bent.work(1.0) == pytest.approx(1.0)


def test_what_an_earlier_run_has_done_is_no_part_of_the_rest():
    estimate = Estimate([Task("training", 100)])
    estimate.begin("training")
    estimate.count("training", 60, 100, 60)
    assert estimate.remaining() == pytest.approx(40)
    estimate.spend("training", 10)
    estimate.count("training", 80, 100, 60)
    assert estimate.remaining() == pytest.approx(10)


def test_phases_that_come_again_and_again_are_counted():
    estimate = Estimate([Task("refilling", 30, visits=3)])
    for left in (20, 10, 0):
        estimate.begin("refilling")
        estimate.spend("refilling", 10)
        estimate.end("refilling")
        assert estimate.remaining() == pytest.approx(left, abs=0.5)


def test_a_phase_is_over_when_a_later_one_begins():
    estimate = Estimate(PLAN)
    estimate.begin("restoring")
    assert estimate.remaining() == pytest.approx(50)


def test_a_phase_that_does_not_count_never_seems_over_before_it_is():
    estimate = Estimate([Task("report", 10)])
    estimate.begin("report")
    estimate.spend("report", 4)
    assert estimate.remaining() == pytest.approx(6)
    estimate.spend("report", 60)
    assert estimate.remaining() == pytest.approx(10 * LEAST_LEFT)
    estimate.end("report")
    assert estimate.remaining() == 0


def test_phases_that_are_no_part_of_the_plan_change_nothing():
    estimate = Estimate(PLAN)
    estimate.begin("singing")
    estimate.spend("singing", 1000)
    estimate.count("singing", 1, 2)
    estimate.end("singing")
    assert estimate.remaining() == pytest.approx(160)


def test_on_a_machine_of_half_the_speed_the_estimate_comes_near_the_truth_early():
    """Each phase takes twice what is expected, one of them three times: at a fifth of the whole the error is below 30 %."""
    truth = {"preparing": 20.0, "training": 200.0, "restoring": 150.0}
    estimate, gone, total = Estimate(PLAN), 0.0, sum(truth.values())
    for name, seconds in truth.items():
        estimate.begin(name)
        for part in range(1, 101):
            estimate.spend(name, seconds / 100)
            gone += seconds / 100
            if name != "preparing":
                estimate.count(name, part, 100)
            if 0.2 * total < gone < 0.8 * total:
                assert gone + estimate.remaining() == pytest.approx(total, rel=0.3)
        estimate.end(name)
    assert estimate.remaining() == 0
