"""Reads run.json and the other JSON files of cryovae. The schema in record_schema.py checks the content of a record.

The schema is imported when a record is checked, because pydantic would delay the start of all other commands.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cryovae.aliases import current_record
from cryovae.errors import InputError
from cryovae.ranges import shown

# Largest size of a record. It has about 300 bytes for each input.
MOST_BYTES = 64 * 2**20
ELSEWHERE = "move it away, or give the folder of another run"


def read_json(path: Path) -> dict[str, Any] | None:
    """A dictionary from a JSON file; None if there is no file. InputError if it cannot be read, or holds something else."""
    try:
        if not path.is_file():
            return None
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path} has {path.stat().st_size} bytes, expected a record of at most {MOST_BYTES}: {ELSEWHERE}")
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}): {ELSEWHERE}") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read, {shown(str(error))} found, expected JSON: {ELSEWHERE}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} cannot be read, {shown(content)} found, expected a dictionary: {ELSEWHERE}")
    return content


def checked_record(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """The content of a run.json with the names of today. InputError, with the wrong entry, if it is no record of a run."""
    from pydantic import ValidationError

    from cryovae.io.record_schema import Record

    try:
        Record.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = shown(".".join(str(part) for part in first["loc"]))
        message = shown(first["msg"].removeprefix("Value error, "), 200)
        raise InputError(f"{path} is no record of a run, {where} is {shown(first['input'])}, {message}: {ELSEWHERE}") from error
    return current_record(content)
