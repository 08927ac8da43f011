"""cryovae metadata."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from cryovae.errors import InputError
from cryovae.workflows.options import only
from cryovae.workflows.requests import OutputOptions


def metadata(
    run_folder: Annotated[Path, typer.Argument(help="The folder of a cryovae restore, or of a row of a table.")],
    *,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A .json file; without it, print them.")] = None,
    results: Annotated[OutputOptions, only("overwrite")],
) -> None:
    """Write the metadata of a restored tomogram for a deposition in the CryoET Data Portal, as JSON.

    They are the fields of the portal's core schema v2.0.0, class Tomogram. What the run does not know is null, and is listed.
    """
    from cryovae.io.atomic import write_text
    from cryovae.io.files import FORMATS, read_volume
    from cryovae.io.outputs import check_file
    from cryovae.io.portal import SCHEMA, to_fill_in, tomogram_metadata
    from cryovae.workflows.run_inputs import record_of

    if output is not None:
        if output.suffix.lower() != ".json":
            raise InputError(f"-o {output} found, expected a .json file: JSON can be pasted into the portal's YAML as it is")
        check_file(output)
        if output.exists() and not results.overwrite:
            raise InputError(f"{output} is there already: pass --overwrite, or another name with -o")
    record = record_of(run_folder)
    names = [f"{record.get('name', '')}_mean{suffix}" for suffix in FORMATS.values()]
    mean = next((run_folder / name for name in names if (run_folder / name).exists()), None)
    if mean is None:
        raise InputError(f"{run_folder} has no {names[0]}, expected a restored tomogram: give the folder of a restoration")
    known = tomogram_metadata(record, read_volume(mean))
    text = json.dumps(known, indent=2) + "\n"
    if output is None:
        print(text, end="")
    else:
        write_text(output, text)
        print(f"metadata of {mean}: {output} ({SCHEMA})")
    missing = to_fill_in(known)
    print(f"to fill in by you, {len(missing)} fields that the run does not know:", file=sys.stderr)
    for field, words in missing.items():
        print(f"  {field:<30}{words}", file=sys.stderr)
