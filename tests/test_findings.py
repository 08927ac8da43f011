"""Findings of checks: their words, their record, and how refusals end or are let pass."""

from __future__ import annotations

import pytest

from cryovae.errors import InputError
from cryovae.findings import Finding, Severity, settle

NOTE = Finding("fill", Severity.NOTE, "ts: a border of 0", "", "left out")
REFUSAL = Finding("halves", Severity.REFUSAL, "ts: halves that are inverted", "halves of one tomogram", "check the files")


def test_the_words_say_what_is_seen_expected_and_to_do():
    assert REFUSAL.words == "ts: halves that are inverted, expected halves of one tomogram: check the files"
    assert NOTE.words == "ts: a border of 0: left out"


def test_a_finding_comes_back_from_its_record():
    for finding in (NOTE, REFUSAL, *settle([REFUSAL], force=True)):
        assert Finding.from_plain(finding.as_plain()) == finding
    assert Finding.from_plain({"severity": "of a later version", "seen": "x"}).severity is Severity.NOTE


def test_all_refusals_are_in_one_error_with_a_line_each():
    other = Finding("geometry", Severity.REFUSAL, "ts: mirrored", "the range seen", "pass --handedness -1")
    with pytest.raises(InputError) as error:
        settle([NOTE, REFUSAL, other])
    first, second = str(error.value).splitlines()
    assert first.startswith(REFUSAL.words)
    assert second.startswith(other.words)
    assert "--force" in first


def test_forced_refusals_pass_as_warnings_that_say_so():
    note, passed = settle([NOTE, REFUSAL], force=True)
    assert note == NOTE
    assert passed.severity is Severity.WARNING
    assert passed.forced
    assert passed.line.startswith("warning (forced): ts: halves")
