import numpy as np
import pytest

from cryovae.napari_plugin import layers


class Shown:
    """The part of a napari layer that is used."""

    def __init__(self, tuple_):
        self.data, options, _ = tuple_
        self.metadata = options["metadata"]


def test_a_layer_is_in_angstrom_with_the_contrast_of_one_slice():
    density = np.zeros((5, 8, 6), dtype=np.float32)
    density[2] = np.linspace(1, 3, 48).reshape(8, 6)
    density[0] = 1e6
    data, options, kind = layers.layer_for(density, "mean", "m", 7.5, tilts=(-60, 60))
    assert kind == "image"
    assert data is density
    assert options["scale"] == (7.5, 7.5, 7.5)
    assert options["units"] == ("angstrom",) * 3
    low, high = options["contrast_limits"]
    assert 1 <= low < high <= 3
    assert options["metadata"]["cryovae"]["tilts"] == [-60.0, 60.0]


def test_samples_have_an_axis_of_their_own():
    _, options, _ = layers.layer_for(np.random.default_rng(0).normal(size=(3, 4, 6, 5)), "samples", "s", 10.0)
    assert options["scale"] == (1.0, 10.0, 10.0, 10.0)
    assert options["units"][0] == "pixel"


@pytest.mark.parametrize("values", [np.zeros((4, 6, 5)), np.full((4, 6, 5), np.nan)])
def test_an_empty_slice_has_limits_all_the_same(values):
    low, high = layers.contrast_limits(values)
    assert low < high


def test_layers_are_selected_by_role_and_run(tmp_path):
    density = np.zeros((2, 3, 4))
    made = [
        Shown(layers.layer_for(density, "mean", "a", 1.0, run=tmp_path / "a")),
        Shown(layers.layer_for(density, "std", "b", 1.0, run=tmp_path / "a")),
        Shown(layers.layer_for(density, "mean", "c", 1.0, run=tmp_path / "c")),
    ]
    assert layers.of_role(made, "mean") is made[2]
    assert layers.of_role(made, "mean", str(tmp_path / "a")) is made[0]
    assert layers.of_role(made, "samples") is None
    made[0].metadata = {}
    assert layers.about(made[0]) == {}
    assert layers.of_role(made, "mean", str(tmp_path / "a")) is None


def test_a_role_that_is_none_is_refused():
    with pytest.raises(ValueError, match="role"):
        layers.layer_for(np.zeros((2, 2, 2)), "median", "m", 1.0)
