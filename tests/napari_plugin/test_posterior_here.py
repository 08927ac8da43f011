"""Draws of the posterior at a place of a tomogram in the viewer: without Qt, and by the button."""

import json

import numpy as np
import pytest

from cryovae.data.prepare import prepare
from cryovae.errors import InputError
from cryovae.generator_file import FILE, GeneratorFile, save_generator
from cryovae.io.geometry_record import recorded
from cryovae.napari_plugin.contents import layer_of_file
from cryovae.napari_plugin.posterior_here import Measured, measured_layer, posterior_here
from cryovae.posterior.patch_sampler import PatchSampler, observed_patches
from tests.conftest import write_mrc
from tests.helpers.generators import small_generator

SIDE = 16


@pytest.fixture(scope="module")
def place(tmp_path_factory, small):
    """A folder with a model, halves with their tilts, and a run of them."""
    folder = tmp_path_factory.mktemp("posterior")
    save_generator(folder / FILE, GeneratorFile(small_generator(), SIDE))
    halves = [write_mrc(folder / f"corner_half{i + 1}.mrc", half, 10.0) for i, half in enumerate(small.halves)]
    (folder / "corner.tlt").write_text("\n".join(f"{angle:.2f}" for angle in small.tilts.angles))
    inputs = {f"half{i + 1}": {"path": str(path)} for i, path in enumerate(halves)}
    (folder / "run").mkdir()
    write_mrc(folder / "run" / "corner_mean.mrc", small.density, 10.0)
    record = {"name": "corner", "status": "done", "inputs": inputs, "tilts": recorded(small.tilts)}
    (folder / "run" / "run.json").write_text(json.dumps(record))
    return folder


def result_of(work):
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


class Image:
    """A layer as far as it is looked at."""

    def __init__(self, path):
        self.data, options, _ = layer_of_file(path)
        self.name, self.metadata = options["name"], options["metadata"]


@pytest.fixture
def halves(place):
    return [Image(place / f"corner_half{i}.mrc") for i in (1, 2)]


def test_draws_are_those_of_the_sampler_in_grey_values(place, small, tmp_path):
    patch = result_of(posterior_here(place / FILE, None, Measured(place / "run"), None, (3, 20, 15), 5, 2))
    assert patch.position == (0, 12, 7)
    sampler = PatchSampler(small_generator())
    observed = observed_patches(prepare(small, SIDE, held_out=False), [patch.position], SIDE)
    expected = observed.grey(sampler.decoded(sampler.posterior(observed.observation, 5, 2)[0])).numpy()
    scale = expected.std()
    # The model in the file is of half precision.
    assert np.abs(patch.samples - expected).max() < 0.1 * scale
    assert np.allclose(patch.mean, patch.samples.mean(0))
    assert np.allclose(patch.std, np.std(patch.samples, 0, ddof=1))
    again = posterior_here(place / FILE, patch.prior, Measured(place / "run"), patch.ready, (3, 20, 15), 2, 2)
    fewer = result_of(again)
    assert fewer.ready is patch.ready
    assert np.allclose(fewer.samples, patch.samples[:2], atol=1e-3 * scale)


def test_halves_with_their_tilts_are_the_same_as_their_run(place, halves):
    layer, measured = measured_layer(halves)
    assert layer is halves[1]
    assert measured.files == tuple(place / f"corner_half{i}.mrc" for i in (1, 2))
    ours, theirs = measured.tomogram(), Measured(place / "run").tomogram()
    assert np.array_equal(ours.density, theirs.density)
    assert np.allclose(ours.tilts.angles, theirs.tilts.angles, atol=0.01)


def test_the_active_tomogram_is_taken_before_others(place, halves, small, tmp_path):
    write_mrc(tmp_path / "other.mrc", small.density, 10.0)
    (tmp_path / "other.tlt").write_text("\n".join(f"{angle:.2f}" for angle in small.tilts.angles))
    other = Image(tmp_path / "other.mrc")
    assert measured_layer([other, *halves], other) == (
        other,
        Measured(None, (tmp_path / "other.mrc",), measured_layer(halves)[1].tilts),
    )
    assert measured_layer([other, *halves])[0] is halves[1]


def test_without_tilts_there_is_no_posterior(small, tmp_path):
    path = write_mrc(tmp_path / "alone.mrc", small.density, 10.0)
    for layers in ([], [Image(path)]):
        with pytest.raises(InputError, match="no tomogram with its tilts"):
            measured_layer(layers)


@pytest.mark.parametrize(
    ("at", "count", "words"), [((3, 36, 15), 4, "outside of the tomogram"), ((3, 20, 15), 1, "2 or more for a standard")]
)
def test_what_cannot_be_drawn_is_one_line(place, at, count, words):
    with pytest.raises(InputError, match=words):
        result_of(posterior_here(place / FILE, None, Measured(place / "run"), None, at, count, 0))


def test_a_tomogram_that_is_smaller_than_a_patch_is_one_line(place, small, tmp_path):
    save_generator(tmp_path / FILE, GeneratorFile(small_generator(), 32))
    with pytest.raises(InputError, match="24 x 36 x 32 voxels found, expected at least 32"):
        result_of(posterior_here(tmp_path, None, Measured(place / "run"), None, (3, 20, 15), 4, 0))


def test_the_button_draws_at_the_middle_of_the_view(place, make_viewer, qtbot, shown):
    from cryovae.napari_plugin.latent_widget import LatentWidget
    from cryovae.napari_plugin.temporary_layers import camera_of

    viewer = make_viewer(show=True)
    widget = LatentWidget(viewer)
    viewer.window.add_dock_widget(widget, name="latent")
    widget.controls.source.setCurrentIndex(1)
    panel = widget.prior
    panel.controls.path.line.setText(str(place))
    panel.controls.count.setValue(3)
    panel.posterior.button.click()
    assert "no tomogram with its tilts" in shown[0]
    shown.clear()
    for i in (1, 2):
        data, options, _ = layer_of_file(place / f"corner_half{i}.mrc")
        viewer.add_image(data, **options)
    viewer.dims.set_point(0, 120)
    camera_of(viewer).center = (0, 200, 150)
    panel.posterior.button.click()
    qtbot.waitUntil(lambda: widget.worker is None, timeout=20000)
    assert not shown
    shapes = {"mean": (SIDE,) * 3, "std": (SIDE,) * 3, "samples": (3, *(SIDE,) * 3)}
    for name, shape in shapes.items():
        layer = viewer.layers[f"posterior {name}"]
        assert layer.data.shape == shape
        assert np.allclose(layer.translate[-3:], (40, 120, 70))
        assert np.allclose(layer.scale[-3:], 10)
        assert layer.visible == (name == "mean")
    assert viewer.layers.selection.active is viewer.layers["corner_half2.mrc"]
    panel.posterior.button.click()
    qtbot.waitUntil(lambda: widget.worker is None, timeout=20000)
    assert len(viewer.layers) == 5
