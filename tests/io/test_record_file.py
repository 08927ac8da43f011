"""A run.json is checked when it is read: what is nonsense is named in one line, and a damaged record is not written over."""

import json

import numpy as np
import pytest

from cryovae.errors import InputError
from cryovae.io.names import fault_of
from cryovae.workflows.evaluate import find
from cryovae.workflows.run_folder import RunFolder, read_record
from cryovae.workflows.run_inputs import record_of
from tests.conftest import write_mrc

GOOD = {"name": "ts", "status": "done", "inputs": {"tomogram": {"path": "ts.mrc"}}, "tilts": {"angles": [-60, 0, 60]}}
WRONG = {
    "name": [7, "", "..", "../x", "a/b", "x" * 999, None], "status": [7, [1]],
    "directory": [7, "a\0b"],
    "model": [7, ["x"]],
    "inputs": [7, [1], {"tomogram": "ts.mrc"}, {"tomogram": {}}, {"tomogram": {"path": 7}}, {"tomogram": {"path": "a\0"}}],
    "tilts": ["x", [1], {}, {"angles": "x"}, {"angles": [1]}, {"angles": [float("nan"), 1]}, {"angles": [-600, 0]},
              {"angles": [0, 1e300]}, {"angles": [True, False]}, {"lowest": "a", "highest": 3}, {"angles": [-60, 60],
              "second": 7},
              {"angles": list(range(5000))}, {"angles": [-60, 60], "weights": [1]}],
    "optics": ["x", {}, {"defocus": "x"}, {"defocus": [float("inf")]}], "unrotated": ["no", 1], "seed": ["x", 1.5, 10**30],
    "restoration": [7, {"held_out": 7}, {"held_out": {"fsc": "x"}}, {"held_out": {"coverage": {"x": 1.0}}}, {"seconds": "x"}],
    "training": [7, {"seconds_by_part": [1]}], "config": [7, {"training": 7}, {"restoration": {"temperature": "hot"}}],
    "live": [7, [1, 2], ["a", 1, 2]], "process": [7, {"pid": -1}, {"pid": 2**70}], "notes": ["x", [1]],
}  # fmt: skip
CASES = [(name, value) for name, values in WRONG.items() for value in values]


@pytest.mark.parametrize(("name", "value"), CASES, ids=range(len(CASES)))
def test_an_entry_of_another_kind_is_refused_by_its_name(name, value, tmp_path):
    (tmp_path / "run.json").write_text(json.dumps(GOOD | {name: value}))
    with pytest.raises(InputError, match=rf"run\.json is no record of a run, '{name}") as caught:
        record_of(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"7", b"\xff\xfe", b'{"seed": ' + b"9" * 5000 + b"}", b"[" * 100000])
def test_what_is_no_dictionary_is_refused(content, tmp_path):
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(InputError, match=r"run\.json cannot be read") as caught:
        read_record(tmp_path / "run.json")
    assert "\n" not in str(caught.value)


def test_a_good_record_is_read_and_a_missing_one_is_empty(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps(GOOD | {"more": [1]}))
    assert read_record(tmp_path / "run.json") == GOOD | {"more": [1]}
    assert read_record(tmp_path / "none.json") == {}


def test_a_damaged_record_in_the_folder_of_results_is_kept(tmp_path):
    (tmp_path / "run.json").write_text('{"name": 7}')
    with pytest.raises(InputError, match="move it away"):
        RunFolder(tmp_path, "ts")
    assert (tmp_path / "run.json").read_text() == '{"name": 7}'


def test_a_damaged_record_of_another_tomogram_is_passed_by(tmp_path):
    write_mrc(tmp_path / "ts_mean.mrc", np.ones((4, 5, 6), np.float32), 10.0)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        find(tmp_path / "ts_mean.mrc")
    (tmp_path / "ts_run.json").write_text(json.dumps(GOOD))
    assert find(tmp_path / "ts_mean.mrc").record == GOOD


@pytest.mark.parametrize("name", ["TS\u300001", "a\\b", "ts {x} 'y'", "é" * 60])
def test_a_record_of_any_name_that_a_run_may_have_is_read(tmp_path, name):
    assert fault_of(name) is None
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"name": name, "status": "done"}), encoding="utf-8")
    assert read_record(path)["name"] == name
