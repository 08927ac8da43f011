"""Draws beside patches in a report: the same each time, from the density given, and none where they make no sense."""

import numpy as np
import pytest

from cryovae.generator_file import GeneratorFile, save_generator
from cryovae.report import prior_draws
from cryovae.report.prior_draws import COUNT, patches_beside
from cryovae.report.slices import beside
from tests.helpers.generative import tiny_generator


@pytest.fixture
def _base(tmp_path, monkeypatch):
    path = tmp_path / "generator.safetensors"
    save_generator(path, GeneratorFile(tiny_generator(), 16))
    monkeypatch.setattr(prior_draws, "BASE", path)
    monkeypatch.setattr("cryovae.generator_file.BASE", path)


def density(shape):
    return np.random.default_rng(0).normal(5, 3, shape).astype(np.float32)


@pytest.mark.usefixtures("_base")
def test_patches_are_of_the_density_and_draws_the_same_each_time():
    volume = density((32, 40, 36))
    parts = patches_beside(volume)
    assert parts.patches.shape == parts.draws.shape == (COUNT, 16, 16)
    rows = np.lib.stride_tricks.sliding_window_view((volume - volume.mean()) / volume.std(), 16, axis=2)
    assert all(np.isclose(rows, patch[0], atol=1e-5).all(-1).any() for patch in parts.patches)
    assert np.array_equal(parts.draws, patches_beside(volume + 1).draws)
    assert beside(parts).axes


@pytest.mark.usefixtures("_base")
def test_a_density_smaller_than_two_patches_has_none():
    assert patches_beside(density((31, 40, 36))) is None


def test_a_package_without_a_base_has_none(monkeypatch, tmp_path):
    monkeypatch.setattr(prior_draws, "BASE", tmp_path / "none.safetensors")
    assert patches_beside(density((64, 70, 66))) is None
