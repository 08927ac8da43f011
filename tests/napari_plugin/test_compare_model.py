"""Compare without a window: which layers, the cut, the region in view, spectra and FSC of a truth, a voxel."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cryovae import fourier
from cryovae.errors import InputError
from cryovae.evaluation.region import Box
from cryovae.io.geometry_record import recorded
from cryovae.napari_plugin.compare_model import (
    CutDensity,
    box_in_view,
    comparable,
    compare_region,
    default_pair,
    voxel_at,
)
from cryovae.napari_plugin.layers import grey_range, layer_for
from cryovae.napari_plugin.regions import box_within
from cryovae.physics.wedge import volume_mask
from cryovae.report.headline import SHARED_MODEL
from cryovae.tomogram import TiltGeometry
from tests.conftest import write_mrc

SHAPE = (20, 28, 24)


def layer(density, role, run=None, name=None, **options):
    """As napari would make it of our tuple, as far as the models look."""
    data, made, _ = layer_for(density, role, name or role, 10.0, run=run, **options)
    ndim = data.ndim
    place = {"scale": np.array(made["scale"]), "translate": np.zeros(ndim), "ndim": ndim, "rgb": False}
    return SimpleNamespace(data=data, name=made["name"], metadata=made["metadata"], **place)


def noise(seed, shape=SHAPE):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("index", [(4,), (slice(None), 5), (slice(None), slice(None), 10), (slice(None), slice(None), 11), ()])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_cut_density_is_empty_before_the_cut(axis, index):
    """For each index, as numpy indexes it."""
    density = noise(0)
    expected = density.copy()
    before = [slice(None)] * 3
    before[axis] = slice(0, 11)
    expected[tuple(before)] = np.nan
    assert np.array_equal(CutDensity(density, axis, 11)[index], expected[index], equal_nan=True)
    assert np.array_equal(np.asarray(CutDensity(density, axis, 11)), expected, equal_nan=True)


def test_input_and_mean_of_the_last_run_are_the_default():
    layers = [
        layer(noise(i), role, run, f"{run} {role}") for i, run in enumerate(("a", "b")) for role in ("input", "mean", "std")
    ]
    layers.append(layer(np.zeros((8, *SHAPE)), "samples", "b"))
    assert [one.name for one in default_pair(layers)] == ["b input", "b mean"]
    assert len(comparable(layers)) == 6
    assert [one.name for one in default_pair([layers[0], layers[2], layers[3]])] == ["a input", "b input"]
    assert default_pair(layers[1:3]) is None
    assert default_pair(layers[:1]) is None


def test_one_outlier_does_not_set_the_contrast():
    first, second = noise(1), 3 * noise(2)
    second[0, 0, 0] = 1e6
    low, high = grey_range(first, second)
    assert -10 < low < -6
    assert 6 < high < 10
    assert grey_range(np.full((4, 4), 2.0)) == (1.5, 2.5)


def test_the_region_in_view_is_as_deep_as_it_is_wide():
    corners = np.array([[0, 30, 40], [0, 60, 80]])
    box = box_in_view(corners, (1, 2), (50, 0, 0), (100, 120, 110))
    assert box == Box((30, 30, 40), (71, 61, 81))
    sides = box_in_view(np.array([[0, 3, 4], [0, 5, 6]]), (1, 2), (2, 0, 0), (100, 120, 110)).shape
    assert sides == (16, 16, 16)
    assert box_within((0, 0, 0), (100, 1000, 1000), (100, 1000, 1000), 16, 256).shape == (100, 256, 256)
    with pytest.raises(InputError, match="at least 16"):
        box_within((0, 0, 0), (10, 10, 10), (10, 40, 40), 16)


@pytest.fixture
def run(tmp_path):
    """A run with halves: they share a signal, the restored ones with less noise. The tilts are -50 to 40 degrees."""
    signal = noise(10, (40, 56, 48))
    for number in (1, 2):
        write_mrc(tmp_path / f"t_half{number}.mrc", signal + 2 * noise(10 + number, signal.shape), 10.0)
        write_mrc(tmp_path / f"t_mean_half{number}.mrc", signal + 0.5 * noise(20 + number, signal.shape), 10.0)
    inputs = {f"half{n}": {"path": str(tmp_path / f"t_half{n}.mrc")} for n in (1, 2)}
    tilts = recorded(TiltGeometry.from_range(-50, 40))
    (tmp_path / "run.json").write_text(json.dumps({"name": "t", "inputs": inputs, "tilts": tilts}))
    return tmp_path


def test_the_fsc_of_a_region_is_that_of_the_halves_of_the_run(run):
    """White signal and noise of known power: the correlation is S / (S + N), 0.8 and 0.2, in either part."""
    pair = (layer(noise(1, (40, 56, 48)), "input", run), layer(noise(2, (40, 56, 48)), "mean", run))
    comparison = compare_region(pair, Box((0, 4, 4), (40, 52, 44)))
    assert comparison.tilts.lowest == -50
    assert [row.name for row in comparison.rows] == ["restored", "untouched input"]
    for row, expected in zip(comparison.rows, (0.8, 0.2), strict=True):
        for part in (row.score.wedge, row.score.measured):
            assert np.nanmean(part.shells[6:]) == pytest.approx(expected, abs=0.06)
    assert {name: power.shape for name, power in comparison.spectra.items()} == {"input": (40, 40), "mean": (40, 40)}


@pytest.mark.parametrize("box", [Box((0, 0, 0), (64, 80, 72)), Box((16, 20, 18), (48, 60, 54))], ids=["full volume", "region"])
def test_the_empty_wedge_of_an_input_has_no_fsc(tmp_path, box):
    """The halves share a strong signal and have no wedge; those of the run fill it: 0 for the one, 1 for the other."""
    shape, tilts = (64, 80, 72), TiltGeometry.from_range(-60, 60)
    signal = 5 * fourier.filtered(torch.from_numpy(noise(0, shape)), 1 / (1 + (fourier.radius(shape) / 0.05) ** 2))
    mask = volume_mask(shape, tilts)
    for number in (1, 2):
        measured = fourier.filtered(signal + torch.from_numpy(noise(number, shape)), mask)
        write_mrc(tmp_path / f"t_half{number}.mrc", measured.numpy(), 10.0)
        write_mrc(tmp_path / f"t_mean_half{number}.mrc", signal.numpy() + 0.01 * noise(number, shape), 10.0)
    inputs = {f"half{n}": {"path": str(tmp_path / f"t_half{n}.mrc")} for n in (1, 2)}
    (tmp_path / "run.json").write_text(json.dumps({"name": "t", "inputs": inputs, "tilts": recorded(tilts)}))
    pair = (layer(noise(8, shape), "input", tmp_path), layer(noise(9, shape), "mean", tmp_path))
    comparison = compare_region(pair, box)
    restored, untouched = (row.score.wedge for row in comparison.rows)
    assert abs(untouched.band) < min(2 * untouched.error, 0.05)
    assert restored.band > 0.95
    assert "untouched input, FSC between the halves: missing wedge" in comparison.summary()
    assert "0.00 ±" in comparison.summary()
    assert SHARED_MODEL in comparison.summary()


def test_without_halves_the_two_layers_are_correlated():
    first, second = noise(1, (32, 40, 36)), noise(2, (32, 40, 36))
    pair = (layer(first, "input", tilts=(-60, 60)), layer(first + second, "mean", tilts=(-60, 60)))
    comparison = compare_region(pair, Box((0, 0, 0), (32, 40, 36)))
    assert np.nanmean(comparison.rows[0].score.measured.shells[5:]) == pytest.approx(0.5**0.5, abs=0.06)
    with pytest.raises(InputError, match="one size"):
        compare_region((pair[0], layer(noise(3), "mean")), Box((0, 0, 0), (16, 16, 16)))


def test_a_voxel_has_its_place_in_angstrom_and_its_values(run):
    shape = (40, 56, 48)
    densities = {role: noise(i, shape) for i, role in enumerate(("input", "mean", "std"))}
    samples = noise(9, (4, *shape))
    layers = [layer(density, role, run) for role, density in densities.items()]
    layers += [layer(samples, "samples", run), layer(noise(5, shape), "mean", "another run")]
    voxel = voxel_at((104.0, 199.0, 301.0), (layers[0], layers[1]), layers)
    assert voxel.index == (10, 20, 30)
    assert voxel.place == (100.0, 200.0, 300.0)
    assert voxel.values == {role: pytest.approx(float(density[10, 20, 30])) for role, density in densities.items()}
    assert np.allclose(voxel.samples, samples[:, 10, 20, 30])
    assert "(100, 200, 300) Å" in voxel.text()
    with pytest.raises(InputError, match="outside"):
        voxel_at((104.0, 199.0, 480.0), (layers[0], layers[1]), layers)
