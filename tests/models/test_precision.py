"""When convolutions run in bfloat16."""

import pytest
import torch

from cryovae.models import precision
from cryovae.models.precision import convolving, halved

CPU = torch.device("cpu")


@pytest.mark.parametrize("has_it", [True, False])
def test_auto_is_bfloat16_where_the_processor_has_it(monkeypatch, has_it):
    monkeypatch.setattr(precision, "_processor_has_bfloat16", lambda: has_it)
    assert halved("auto", CPU) == (has_it and torch.backends.mkldnn.is_available())
    assert halved("bfloat16", CPU)
    assert not halved("float32", CPU)
    assert not halved("auto", torch.device("mps"))


def test_a_torch_that_does_not_tell_counts_as_without(monkeypatch):
    monkeypatch.delenv(precision.NO_BFLOAT16)
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert not precision._processor_has_bfloat16()


def test_a_variable_of_the_environment_denies_it(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    monkeypatch.delenv(precision.NO_BFLOAT16)
    assert precision._processor_has_bfloat16()
    monkeypatch.setenv(precision.NO_BFLOAT16, "1")
    assert not precision._processor_has_bfloat16()


def test_convolutions_are_in_bfloat16_inside_alone():
    layer, density = torch.nn.Conv3d(1, 2, 3), torch.randn(1, 1, 8, 8, 8)
    with convolving(CPU, True):
        assert layer(density).dtype == torch.bfloat16
        with convolving(CPU, False):
            assert layer(density).dtype == torch.float32
    assert layer(density).dtype == torch.float32
