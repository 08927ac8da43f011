import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from cryovae.checkpoint import Checkpoint, load_model, load_state, save_model, save_state
from cryovae.errors import InputError
from cryovae.models.ladder import Ladder, R
from cryovae.models.ladder_config import FLOW


def test_a_model_comes_back_bit_for_bit_with_its_sizes_and_noise(ladder, tmp_path):
    path = tmp_path / "run/model.safetensors"
    save_model(path, Checkpoint(ladder, 16, 120, 2, {"ts_01": torch.rand(24, 4, 4)}))
    loaded = load_model(path.parent)
    y = torch.randn(1, 8, 16, 12)
    assert torch.equal(loaded.ladder.restore(loaded.ladder.encode(y, R), None), ladder.restore(ladder.encode(y, R), None))
    assert (loaded.patch, loaded.step, loaded.encoders) == (16, 120, 2)
    assert loaded.noise["ts_01"].shape == (24, 4, 4)


def test_what_a_model_is_can_be_read_without_cryovae(ladder, tmp_path):
    save_model(tmp_path / "m.safetensors", Checkpoint(ladder, 16, 3, 1, {}))
    with safe_open(tmp_path / "m.safetensors", framework="np") as file:
        about = json.loads(file.metadata()["cryovae"])
    assert about["ladder"]["widths"] == [4, 6, 8]


@pytest.mark.parametrize("encoders", [1, 2])
def test_a_flow_posterior_comes_back_and_models_of_before_have_none(small_config, ladder, tmp_path, encoders):
    torch.manual_seed(0)
    flow = Ladder(replace(small_config, posterior=FLOW, flow_levels=1), encoders)
    save_model(tmp_path / "flow.safetensors", Checkpoint(flow, 16, 3, encoders, {}))
    loaded = load_model(tmp_path / "flow.safetensors").ladder
    assert loaded.config == flow.config
    assert loaded.state_dict().keys() == flow.state_dict().keys()
    save_model(tmp_path / "now.safetensors", Checkpoint(ladder, 16, 3, encoders, {}))
    with safe_open(tmp_path / "now.safetensors", framework="pt") as file:
        about, tensors = json.loads(file.metadata()["cryovae"]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    about["ladder"] = {name: about["ladder"][name] for name in ("widths", "latents", "blocks")}
    save_file(tensors, tmp_path / "before.safetensors", metadata={"cryovae": json.dumps(about)})
    before = load_model(tmp_path / "before.safetensors").ladder
    assert before.config == small_config
    assert all(torch.equal(a, b) for a, b in zip(before.parameters(), ladder.parameters(), strict=True))


@pytest.mark.parametrize("content", [b"", b"not safetensors" * 99])
def test_what_is_no_model_is_refused(content, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(InputError, match="no safetensors file"):
        load_model(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        load_model(tmp_path / "elsewhere")


def test_a_training_state_runs_no_code_when_read(tmp_path):
    weights = {"a": torch.ones(2)}
    state = {"network": weights, "average": weights, "optimiser": {"state": {}, "param_groups": []}, "step": 3}
    save_state(tmp_path / "s.pt", state)
    assert load_state(tmp_path / "s.pt")["step"] == 3
    torch.save(state | {"path": tmp_path}, tmp_path / "evil.pt")
    with pytest.raises(InputError, match="it holds more than tensors and numbers"):
        load_state(tmp_path / "evil.pt")
