"""Findings of the checks of an input: what was seen, what was expected, what to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from cryovae.errors import InputError

FORCED = "; --force goes on all the same"


class Severity(StrEnum):
    """How grave a finding is: a note informs, a warning tells of a risk for the result, a refusal stops a run."""

    NOTE = "note"
    WARNING = "warning"
    REFUSAL = "refusal"


@dataclass(frozen=True)
class Finding:
    """The result of a check.

    Attributes:
        check: name of the check, e.g. "halves".
        severity: how grave it is.
        seen: what was seen, with the name of the tomogram or file.
        expected: what should be there; empty if nothing in particular.
        action: what to do, or what was done.
        forced: whether it was a refusal that the user let pass.
    """

    check: str
    severity: Severity
    seen: str
    expected: str = ""
    action: str = ""
    forced: bool = False

    @property
    def words(self) -> str:
        """The finding in one line."""
        line = self.seen + (f", expected {self.expected}" if self.expected else "")
        return " ".join((line + (f": {self.action}" if self.action else "")).split())

    @property
    def line(self) -> str:
        """The finding in one line that begins with its severity."""
        return f"{self.severity}{' (forced)' if self.forced else ''}: {self.words}"

    def as_plain(self) -> dict[str, Any]:
        """The record in run.json, which ``from_plain`` reads."""
        plain = {name: str(getattr(self, name)) for name in ("check", "severity", "seen", "expected", "action")}
        return plain | ({"forced": True} if self.forced else {})

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Finding:
        """A finding from its record; a severity of another version counts as a note."""
        known = str(plain.get("severity", "")) in list(Severity)
        words = {name: str(plain.get(name, "")) for name in ("check", "seen", "expected", "action")}
        severity = Severity(plain["severity"]) if known else Severity.NOTE
        return cls(severity=severity, forced=bool(plain.get("forced", False)), **words)


def settle(findings: Iterable[Finding], force: bool = False) -> list[Finding]:
    """Stop at refusals, or let them pass as warnings.

    Args:
        findings: of all checks.
        force: whether refusals become warnings that are marked as forced.

    Returns:
        The findings, none of them a refusal.

    Raises:
        InputError: there are refusals, and ``force`` is False; its text has a line for each.
    """
    listed = list(findings)
    refusals = [one.words for one in listed if one.severity is Severity.REFUSAL]
    if refusals and not force:
        raise InputError(*(words + FORCED for words in refusals))
    return [replace(one, severity=Severity.WARNING, forced=True) if one.severity is Severity.REFUSAL else one for one in listed]
