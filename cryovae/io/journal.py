"""A journal of finished steps, so that a resumed run does not repeat them. The file is written atomically."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryovae.io.atomic import write_text


class Journal:
    """Names and results of finished steps, stored as JSON.

    Attributes:
        path: file of the journal.
        mark: settings on which the results depend; a journal with another mark is not resumed.
        values: result of each finished step by name.
    """

    def __init__(self, path: Path, mark: dict[str, Any]) -> None:
        self.path = path
        self.mark: dict[str, Any] = json.loads(json.dumps(mark))
        self.values: dict[str, Any] = {}

    def resume(self) -> bool:
        """Load the journal of an earlier run; False if there is none or its mark differs."""
        try:
            stored = json.loads(self.path.read_text())
        except (OSError, ValueError):
            return False
        if not isinstance(stored, dict) or stored.get("mark") != self.mark:
            return False
        self.values = dict(stored.get("values", {}))
        return True

    def has(self, name: str) -> bool:
        """Whether a step is finished."""
        return name in self.values

    def once(self, name: str, work: Callable[[], Any]) -> Any:
        """Result of a step; an unfinished step is computed by ``work`` and stored."""
        if name not in self.values:
            self.keep({name: work()})
        return self.values[name]

    def keep(self, values: dict[str, Any]) -> None:
        """Store results and write the file."""
        self.values |= values
        write_text(self.path, json.dumps({"mark": self.mark, "values": self.values}))
