"""Run folders without training, and the check that a command refused its input in one line."""

import json

from cryovae.checkpoint import MODEL, Checkpoint, save_model
from cryovae.io.geometry_record import recorded
from tests.conftest import write_mrc


def make_run(folder, files, ladder, tomogram, **more):
    halves = [write_mrc(files / f"corner_half{i + 1}.mrc", half, 10.0) for i, half in enumerate(tomogram.halves)]
    folder.mkdir()
    save_model(folder / MODEL, Checkpoint(ladder, 16, 5, 2, {}))
    record = {
        "name": "corner",
        "status": "done",
        "inputs": {f"half{i + 1}": {"path": str(path)} for i, path in enumerate(halves)},
        "tilts": recorded(tomogram.tilts),
        "unrotated": False,
        **more,
    }
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def refused(result, *words):
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert result.exit_code == 2, result.output
    assert len(lines) == 1, lines
    assert all(word in lines[0] for word in words), lines[0]
