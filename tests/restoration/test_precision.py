"""Restorations in bfloat16 are those in float32, to the rounding of bfloat16, and leave the model in float32."""

import pytest
import torch

from cryovae.posterior import flow_posterior
from cryovae.restoration.config import RestoreConfig
from cryovae.restoration.restorer import Restorer
from tests.helpers.generative import tiny_generator

CPU = torch.device("cpu")


@pytest.mark.parametrize("sampler", ["amortised", "flow"])
def test_bfloat16_agrees_with_float32(small, ladder, monkeypatch, sampler):
    """Mean and samples to 2 % of the deviation of the data, as far as eight bits of a mantissa go; but not bit for bit."""
    monkeypatch.setattr(flow_posterior, "MOST", 16)
    flow = tiny_generator().taking_estimates() if sampler == "flow" else None
    about = {"samples": 2, "samples_out": 2, "sampler": sampler, "flow_steps": 2, "calibrate": False}
    full, half = (
        Restorer(ladder, 16, RestoreConfig(precision=precision, **about), CPU, flow=flow)(small)
        for precision in ("float32", "bfloat16")
    )
    scale = float(small.density.std())
    for one, two in zip((full.mean, *full.samples), (half.mean, *half.samples), strict=True):
        difference = float((one - two).square().mean().sqrt()) / scale
        assert 0 < difference < 0.02
    assert not ladder.mixed
    assert all(parameter.dtype == torch.float32 for parameter in ladder.parameters())


@pytest.mark.parametrize("settings", [{"sampler": "amortised", "refine": 2}, {"sampler": "langevin", "chain": 4}])
def test_a_search_is_never_in_bfloat16(small, ladder, monkeypatch, settings):
    """It compares values of the bound, whose differences are smaller than the rounding."""
    monkeypatch.setattr(flow_posterior, "MOST", 16)
    flow = tiny_generator().taking_estimates() if "sampler" in settings else None
    about = {
        "samples": 2,
        "samples_out": 1,
        "sampler": "amortised",
        "flow_steps": 1,
        "calibrate": False,
        "halves": False,
    } | settings
    one, two = (
        Restorer(ladder, 16, RestoreConfig(precision=precision, **about), CPU, flow=flow)(small)
        for precision in ("float32", "bfloat16")
    )
    assert torch.equal(one.mean, two.mean)
