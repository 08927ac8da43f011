"""What of a long piece of work is done, in a file that is always whole: what is entered is not done again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryovae.io.atomic import write_text


class Journal:
    """Names of steps and what came of them, as JSON. mark: what the work depends on; one with another mark is begun anew."""

    def __init__(self, path: Path, mark: dict[str, Any]) -> None:
        self.path = path
        self.mark: dict[str, Any] = json.loads(json.dumps(mark))
        self.values: dict[str, Any] = {}

    def resume(self) -> bool:
        """Take up what was entered before; False, and nothing is taken up, if there is none or it has another mark."""
        try:
            found = json.loads(self.path.read_text())
        except (OSError, ValueError):
            return False
        if not isinstance(found, dict) or found.get("mark") != self.mark:
            return False
        self.values = dict(found.get("values", {}))
        return True

    def has(self, name: str) -> bool:
        """Whether a step is entered."""
        return name in self.values

    def once(self, name: str, work: Callable[[], Any]) -> Any:
        """What came of a step, done now unless it is entered."""
        if name not in self.values:
            self.keep({name: work()})
        return self.values[name]

    def keep(self, values: dict[str, Any]) -> None:
        """Enter values."""
        self.values |= values
        write_text(self.path, json.dumps({"mark": self.mark, "values": self.values}))
