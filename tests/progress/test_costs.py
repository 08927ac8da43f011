"""The plan names the phases that a run has, and grows with what it does."""

from dataclasses import replace

import pytest

from cryovae.config import override, preset
from cryovae.progress.costs import Work, machine_factor, operations, tasks_of

QUICK = preset("quick")
WORK = Work([(40, 50, 60)], True, QUICK, 200, True)


def seconds(work):
    return {task.name: task.seconds for task in tasks_of(work)}


def test_a_run_that_trains_fits_the_flow_and_restores_has_all_phases():
    assert list(seconds(WORK)) == [
        "checking the input", "preparing", "training", "refilling", "laps", "sampling by the flow", "measuring the flow",
        "drawing scenes", "fitting the flow", "restoring", "writing", "report",
    ]  # fmt: skip
    amortised = override(QUICK, {"restoration.sampler": "amortised"})
    assert list(seconds(replace(WORK, config=amortised, steps=0))) == [
        "checking the input", "calibration", "restoring", "writing", "report",
    ]  # fmt: skip
    assert list(seconds(replace(WORK, restores=False)))[-1] == "fitting the flow"


def test_time_grows_with_steps_voxels_samples_and_rows():
    base = seconds(WORK)
    assert seconds(replace(WORK, steps=400))["training"] == pytest.approx(2 * base["training"])
    wide = seconds(replace(WORK, shapes=[(80, 50, 60)]))
    assert wide["restoring"] == pytest.approx(2 * base["restoring"])
    assert seconds(replace(WORK, shapes=[(40, 50, 60)] * 3))["restoring"] == pytest.approx(3 * base["restoring"])
    more = replace(WORK, config=override(QUICK, {"restoration.samples": 32}))
    assert seconds(more)["restoring"] > base["restoring"]
    assert seconds(replace(WORK, halves=False))["restoring"] < base["restoring"]
    assert seconds(replace(WORK, tries=True))["checking the input"] > base["checking the input"]


def test_a_larger_network_takes_longer():
    assert operations(QUICK.ladder) == 1
    assert 4 < operations(preset("default").ladder) < 10


def test_a_machine_has_a_speed():
    assert 0.001 < machine_factor(False) < 1000
