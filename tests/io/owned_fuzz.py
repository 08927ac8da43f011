"""Files of cryovae itself, damaged at random with a seed: models, training states, settings and records of runs.

Each is read, or refused by an InputError of one line, within the memory and the time of ``limited``. The fast suite damages some
hundred; ``python -m tests.io.owned_fuzz 10000`` damages as many of each kind.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from cryovae.checkpoint import load_model, load_network, load_state, objective_of
from cryovae.config import preset, read_config
from cryovae.errors import InputError
from cryovae.workflows.run_inputs import inputs_in, record_of
from tests.io.fuzz import TEXT, WORDS, limited

OLD = Path(__file__).parents[1] / "version_0_1"
HOSTILE = ["null", "true", "-1", "0", "1e7", "1e400", "NaN", "9" * 400, '"big"', "[]", "{}", "[-4, 6]", "1000000", "7",
           '"../../x"', '"\\u0000"', "[[[[]]]]", '{"a": {"a": 1}}', "-Infinity", "1e23", '"nan"']  # fmt: skip


def swapped(data: bytes, draw: random.Random) -> bytes:
    """JSON or TOML with one to three values swapped for hostile ones."""
    text = data.decode(errors="replace")
    for _ in range(draw.randint(1, 3)):
        places = [i for i, c in enumerate(text) if c in ":="]
        if not places:
            break
        at = draw.choice(places) + 1
        end = min((i for i in (text.find(c, at) for c in ",}\n]") if i >= 0), default=len(text))
        text = f"{text[:at]} {draw.choice(HOSTILE)}{text[end:]}"
    return text.encode()


def mangled(data: bytes, draw: random.Random, words: list[bytes]) -> bytes:
    """``data`` after one to four injuries: bytes flipped, words put in, pieces cut or doubled."""
    for _ in range(draw.randint(1, 4)):
        if not data:
            break
        at = draw.randrange(min(len(data), 400) if draw.random() < 0.5 else len(data))
        how, word = draw.choice(("flip", "flip", "word", "insert", "cut", "double", "end")), draw.choice(words)
        if how == "flip":
            data = data[:at] + bytes([data[at] ^ draw.randint(1, 255)]) + data[at + 1 :]
        elif how == "word":
            data = data[:at] + word + data[at + len(word) :]
        elif how == "insert":
            data = data[:at] + word + data[at:]
        elif how == "cut":
            data = data[:at] + data[at + draw.randint(1, 64) :]
        elif how == "double":
            data = data[: at + draw.randint(1, 64)] + data[at:]
        else:
            data = data[:at]
    return data


def hostile_model(data: bytes, draw: random.Random) -> bytes:
    """A model file whose metadata have hostile values; its header is long enough for them."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    about = swapped(header["__metadata__"]["cryovae"].encode(), draw).decode()
    if draw.random() < 0.3:
        name = draw.choice([name for name in header if name != "__metadata__"])
        header[draw.choice(("weights.x", "noise.x", "x"))] = header.pop(name)
    header["__metadata__"]["cryovae"] = about
    words = json.dumps(header).encode()
    return len(words).to_bytes(8, "little") + words + data[8 + length :]


def read_model(path: Path) -> object:
    """A model of any objective."""
    return load_model(path) if objective_of(path) == "vae" else load_network(path)


def read_run(path: Path) -> object:
    """What the readers of a run folder make of its record."""
    from cryovae.evaluation.held_out import HeldOut
    from cryovae.io.geometry_record import geometry_of
    from cryovae.report import tables

    record = record_of(path.parent)
    tilts = geometry_of(record["tilts"]) if record.get("tilts") else None
    return inputs_in(record), tilts, HeldOut.from_record(record), tables.record(record), tables.inputs(record)


Damage = Callable[[bytes, random.Random], bytes]
Kind = tuple[str, list[Path], Callable[[Path], object], list[Damage]]


def _bytes(data: bytes, draw: random.Random) -> bytes:
    return mangled(data, draw, WORDS)


def _text(data: bytes, draw: random.Random) -> bytes:
    return mangled(data, draw, TEXT)


KINDS: dict[str, Kind] = {
    "model": (
        "model.safetensors",
        [OLD / "finished/model.safetensors", OLD / "network/model.safetensors"],
        read_model,
        [_bytes, hostile_model, hostile_model],
    ),
    "state": ("training.pt", [OLD / "interrupted/training.pt"], load_state, [_bytes]),
    "config": (
        "config.toml",
        [OLD / "finished/config.toml"],
        lambda path: read_config(path, preset("quick")),
        [_text, swapped, swapped],
    ),
    "record": ("run.json", [OLD / "finished/run.json", OLD / "interrupted/run.json"], read_run, [_text, swapped, swapped]),
}


def damaged(kind: str, number: int) -> bytes:
    """The content of one damaged file; the same for the same number."""
    _, seeds, _, damages = KINDS[kind]
    draw = random.Random(f"{kind} {number}")
    return draw.choice(damages)(draw.choice(seeds).read_bytes(), draw)


def outcome(kind: str, number: int, folder: Path) -> str:
    """'read' or 'refused'. AssertionError for more than one line; whatever else is raised is a fault."""
    name, _, read, _ = KINDS[kind]
    path = folder / name
    path.write_bytes(damaged(kind, number))
    try:
        with limited():
            read(path)
        return "read"
    except InputError as error:
        refusal = str(error)
    assert "\n" not in refusal, f"{kind} {number}: more than one line: {refusal}"
    assert len(refusal) < 1000, f"{kind} {number}: a line of {len(refusal)} letters"
    return "refused"


def main(count: int) -> int:
    """Damage ``count`` files of each kind, print what came of them, and return the number of faults."""
    faults = 0
    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:
            began, outcomes = time.monotonic(), Counter[str]()
            for number in range(count):
                try:
                    outcomes[outcome(kind, number, Path(folder))] += 1
                except Exception as error:
                    outcomes["fault"] += 1
                    print(f"{kind} {number}: {type(error).__name__}: {str(error)[:300]}")
            faults += outcomes["fault"]
            print(f"{kind}: {dict(outcomes)}, {time.monotonic() - began:.0f} s")
    return faults


if __name__ == "__main__":
    sys.exit(min(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10000), 1))
