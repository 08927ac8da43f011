"""The list of deliberate faults stays true: each can still be put in, and names tests that are there."""

from collections import Counter

import pytest

from tests.mutants.run import LEAST, ROOMS, ROOT, _table, faults

FAULTS = faults()


def test_there_are_enough_faults_and_each_has_its_own_name():
    assert len([fault for fault in FAULTS if not fault.equivalent]) >= 80
    assert Counter(fault.id for fault in FAULTS).most_common(1)[0][1] == 1


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_each_fault_still_applies_to_the_code(fault):
    changed = fault.applied()
    compile(changed, fault.file, "exec")
    assert fault.breaks
    assert all((ROOT / name).exists() for name in (*fault.tests, *ROOMS[fault.module]))


def test_the_table_counts_what_survived():
    lines, share = _table({"physics": {"caught": ["a", "b", "c"], "survived": ["d"]}, "data": {"caught": ["e"], "survived": []}})
    assert share == pytest.approx(0.8)
    assert share < LEAST
    assert [line.split() for line in lines[1:]] == [
        ["data", "1", "1", "100%"],
        ["physics", "4", "3", "75%", "d"],
        ["all", "5", "4", "80.0%"],
    ]
