"""Restoring by the generative model, with tiny models of random weights and with posteriors that are known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cryovae.calibration.hidden_bins import SHELLS
from cryovae.data.prepare import prepare
from cryovae.io.fill import with_fill
from cryovae.posterior import flow_posterior
from cryovae.posterior.flow_posterior import FlowPosterior
from cryovae.posterior.volume_data import VolumeData
from cryovae.restoration.config import RestoreConfig
from cryovae.restoration.restorer import Restorer
from cryovae.tomogram import TiltGeometry
from tests.helpers.generative import tiny_generator

CPU = torch.device("cpu")


def _restored(tomogram, ladder, watch=lambda done, total: None, seed=0, **settings):
    defaults = {"samples": 2, "samples_out": 2, "sampler": "flow", "flow_steps": 2, "seed": seed}
    flow = tiny_generator().taking_estimates()
    return Restorer(ladder, 16, RestoreConfig(**(defaults | settings)), CPU, watch, flow)(tomogram)


@pytest.fixture(autouse=True)
def _small_boxes(monkeypatch):
    monkeypatch.setattr(flow_posterior, "MOST", 16)


@pytest.fixture
def restored(small, ladder):
    return _restored(small, ladder)


def test_all_results_are_on_the_grey_scale_of_the_input(restored, small):
    volumes = [restored.mean, restored.std, *restored.samples, *restored.halves]
    assert len(restored.samples) == 2
    assert all(volume.shape == small.shape and bool(torch.isfinite(volume).all()) for volume in volumes)
    assert float(restored.mean.mean()) == pytest.approx(float(small.density.mean()), abs=0.02 * float(small.density.std()))
    assert bool((restored.std > 0).all())


def test_the_record_says_what_held_out_bins_showed(restored):
    held_out = restored.held_out
    assert set(held_out["mean"]) == {"completion", "refined", "average"}
    assert held_out["bins"] > 0
    assert held_out["measured"]["bins"] > 0
    assert len(held_out["spread_factor"]) == len(held_out["spread_error"]) == SHELLS


def test_the_same_seed_gives_the_same_result(restored, small, ladder):
    again = _restored(small, ladder)
    assert torch.equal(again.mean, restored.mean)
    assert torch.equal(again.samples[1], restored.samples[1])
    assert not torch.equal(_restored(small, ladder, seed=1).samples[1], restored.samples[1])


def test_progress_ends_where_it_said(small, ladder):
    calls = []
    _restored(small, ladder, lambda done, total: calls.append((done, total)))
    assert len({total for _, total in calls}) == 1
    # All but the last call are made as tiles are done, and those are as many as were announced.
    assert calls[-2][0] == calls[-2][1] == calls[-1][1]


def test_fill_stays_as_it_was(small, ladder):
    density = small.density.copy()
    density[:, :, 24:] = 7.0
    halves = tuple(np.where(np.arange(small.shape[2]) >= 24, 7.0, half).astype(np.float32) for half in small.halves)
    filled = with_fill(replace(small, density=density, halves=halves))
    restored = _restored(filled, ladder)
    assert np.all(restored.mean.numpy()[:, :, 24:] == 7.0)
    assert np.all(restored.std.numpy()[:, :, 24:] == 0.0)
    assert float(restored.std[:, :, :24].min()) > 0


@pytest.mark.parametrize("halves", [True, False])
def test_without_a_wedge_measured_bins_alone_are_fitted(small, ladder, halves):
    no_wedge = replace(small, tilts=TiltGeometry.from_range(-90, 90), halves=small.halves if halves else None)
    restored = _restored(no_wedge, ladder)
    assert "correlation" not in restored.held_out
    assert restored.held_out["measured"]["bins"] > 0
    assert (restored.halves is None) != halves


def test_without_calibration_and_data_the_average_and_the_samples_are_as_drawn(small, ladder):
    restored = _restored(small, ladder, calibrate=False, halves=False, raw=True)
    prepared = prepare(small, 16, 0)
    posterior = FlowPosterior(tiny_generator().taking_estimates(), ladder, 16, CPU, 2, 0)
    _, (first, second) = posterior.restored(VolumeData.of(prepared), 2)
    average = (first + second) / 2
    torch.testing.assert_close((restored.mean - prepared.mean) / prepared.scale, average - average.mean(), atol=2e-3, rtol=1e-3)
    # Two samples are drawn apart to the variance of one.
    distance = (restored.samples[0] - restored.samples[1]) / prepared.scale
    expected = (first - second) * 2**0.5
    torch.testing.assert_close(distance, expected - expected.mean(), atol=4e-3, rtol=1e-3)
    assert restored.held_out is None
