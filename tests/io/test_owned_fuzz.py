"""Damaged models, training states, settings and records of runs are read, or refused in one line."""

import pytest

from tests.io.owned_fuzz import KINDS, damaged, outcome

EXAMPLES = {"model": 60, "state": 60, "config": 120, "record": 120}


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_of_ours_are_read_or_refused_in_one_line(kind, tmp_path):
    name, seeds, read, _ = KINDS[kind]
    for seed in seeds:
        (tmp_path / name).write_bytes(seed.read_bytes())
        assert read(tmp_path / name) is not None
    outcomes = {outcome(kind, number, tmp_path) for number in range(EXAMPLES[kind])}
    assert "refused" in outcomes


def test_the_same_number_is_the_same_damage():
    assert damaged("record", 7) == damaged("record", 7)
    assert damaged("record", 7) != damaged("record", 8)
