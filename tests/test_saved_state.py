"""Training states that are damaged, hostile or of another run are refused in one line; no code of theirs runs."""

import shutil
from pathlib import Path

import pytest
import torch

from cryovae.checkpoint import load_state
from cryovae.errors import InputError
from cryovae.saved_state import check_fits

STATE = Path(__file__).parent / "version_0_1/interrupted/training.pt"


class Evil:
    def __reduce__(self):
        return exec, ("raise SystemExit('code ran')",)


def _refused(path, words):
    with pytest.raises(InputError, match=words) as caught:
        load_state(path)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)


def _changed(path, **changes):
    state = load_state(STATE)
    torch.save({name: value for name, value in (state | changes).items() if value is not None}, path)
    return path


@pytest.mark.parametrize("content", [b"", b"garbage" * 999, b"PK\x03\x04", STATE.read_bytes()[:-100], STATE.read_bytes()[:2000]])
def test_what_is_no_state_is_refused(content, tmp_path):
    (tmp_path / "training.pt").write_bytes(content)
    _refused(tmp_path / "training.pt", "no training state")


def test_code_in_a_state_does_not_run(tmp_path):
    torch.save({"network": Evil()}, tmp_path / "training.pt")
    _refused(tmp_path / "training.pt", "more than tensors and numbers")


@pytest.mark.parametrize("name", ["network", "average", "optimiser", "step"])
def test_keys_that_are_missing_are_named(name, tmp_path):
    _refused(_changed(tmp_path / "training.pt", **{name: None}), f"no '{name}'")


@pytest.mark.parametrize(
    ("name", "value"),
    [("step", "3"), ("step", -1), ("step", True), ("network", [1]), ("average", {"a": 1}), ("optimiser", {"state": 1}),
     ("pace", 7.0), ("good", {"network": 1}),
     ("norms", "x"), ("best_gain", "x"), ("config", [1]), ("config", {"training": 1}), ("stale", 1.5)],
)  # fmt: skip
def test_entries_of_another_kind_are_refused(name, value, tmp_path):
    _refused(_changed(tmp_path / "training.pt", **{name: value}), name)


def test_a_list_in_place_of_a_state_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / "training.pt")
    _refused(tmp_path / "training.pt", "expected a dictionary")


def _trained():
    network = torch.nn.Linear(3, 2)
    optimiser = torch.optim.AdamW(network.parameters())
    network(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    return network, optimiser, {"network": weights, "average": dict(weights), "optimiser": optimiser.state_dict(), "step": 1}


def test_weights_of_another_shape_or_without_value_are_refused():
    network, optimiser, state = _trained()
    check_fits(STATE, state, network, optimiser)
    for change, words in (
        ({"network": {"weight": torch.ones(2, 3)}}, "other weights"),
        ({"average": state["average"] | {"bias": torch.ones(3)}}, "other weights"),
        ({"average": state["average"] | {"bias": torch.full((2,), torch.nan)}}, "NaN or infinity"),
        ({"optimiser": {"state": {}, "param_groups": []}}, "optimiser"),
        ({"optimiser": state["optimiser"] | {"state": {0: {"exp_avg": torch.ones(9)}}}}, "optimiser"),
        ({"good": {**state, "network": {}}}, "good network"),
    ):
        with pytest.raises(InputError, match=words):
            check_fits(STATE, state | change, network, optimiser)


def test_the_state_of_an_older_version_is_read(tmp_path):
    shutil.copy(STATE, tmp_path / "training.pt")
    assert load_state(tmp_path / "training.pt")["step"] == load_state(STATE)["step"] > 0
