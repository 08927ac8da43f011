"""The learned prior in the latent space widget: its model without Qt, and the window driven as by a user."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cryovae.checkpoint import NetworkCheckpoint, save_network
from cryovae.errors import InputError
from cryovae.generator_file import FILE, GeneratorFile, save_generator
from cryovae.models.ladder_config import LadderConfig
from cryovae.models.unet import UNet
from cryovae.napari_plugin import prior_model
from tests.helpers.generators import small_generator

SIDE = 16
DIRECTION_DRAWS = 6


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    """Directions from few patches, so that tests are fast."""
    monkeypatch.setattr(prior_model, "DIRECTION_DRAWS", DIRECTION_DRAWS)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("prior") / FILE
    save_generator(path, GeneratorFile(small_generator(), SIDE))
    return path


def result_of(work):
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


@pytest.fixture(scope="module")
def draws(model):
    return result_of(prior_model.draw(model, None, 4, 3, 1.0))


def test_draws_repeat_with_their_seed_and_fewer_are_the_first(model, draws):
    same, other = (result_of(prior_model.draw(model, draws.prior, 2, seed, 1.0)) for seed in (3, 4))
    assert same.densities.shape == (2, SIDE, SIDE, SIDE)
    assert np.allclose(same.densities, draws.densities[:2], atol=1e-5)
    assert not np.allclose(other.densities, draws.densities[:2], atol=1e-2)
    low, high = draws.limits
    assert low < draws.densities.mean() < high


def test_a_colder_draw_begins_with_less_noise(model, draws):
    cold = result_of(prior_model.draw(model, draws.prior, 4, 3, 0.5))
    assert torch.allclose(cold.noise, 0.5 * draws.noise)


def test_the_model_is_read_once_until_its_file_changes(model, draws, tmp_path):
    assert prior_model.prior_at(model, draws.prior) is draws.prior
    path = tmp_path / FILE
    save_generator(path, GeneratorFile(small_generator(), SIDE))
    one = prior_model.prior_at(tmp_path)
    assert prior_model.prior_at(tmp_path, one) is one
    save_generator(path, GeneratorFile(small_generator(1), SIDE))
    assert prior_model.prior_at(tmp_path, one) is not one


def test_a_model_whose_patches_do_not_fit_its_strides_is_one_line(tmp_path):
    save_generator(tmp_path / FILE, GeneratorFile(small_generator(), 12))
    with pytest.raises(InputError, match="patch 12 found, expected a multiple of 8"):
        prior_model.prior_at(tmp_path)


def test_no_path_is_the_base_of_the_package(model, monkeypatch):
    monkeypatch.setattr("cryovae.generator_file.BASE", model)
    base = prior_model.prior_at(None)
    assert base.name == "the base prior"
    assert prior_model.prior_at(None, base) is base


def test_a_walk_goes_from_one_draw_to_another_through_draws(draws):
    walked = result_of(prior_model.walk(draws, 1, 3, 5))
    assert walked.densities.shape == (5, SIDE, SIDE, SIDE)
    assert np.array_equal(walked.densities[0], draws.densities[1])
    assert np.array_equal(walked.densities[4], draws.densities[3])
    straight = draws.prior.density((draws.latents[1] + draws.latents[3]) / 2)
    assert not np.allclose(walked.densities[2], straight, atol=1e-3)
    steps = np.abs(np.diff(walked.densities, axis=0)).mean((1, 2, 3))
    assert (steps > 0).all()


@pytest.mark.parametrize("ends", [(1, 1), (0, 4), (-1, 2)])
def test_a_walk_needs_two_draws(draws, ends):
    with pytest.raises(InputError, match="two different draws of 0 to 3"):
        next(prior_model.walk(draws, *ends, 5))


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_directions_are_those_of_the_prior_with_the_seed(model, draws, temperature):
    """Whatever the number and the temperature of the draws in view."""
    few = result_of(prior_model.draw(model, None, 2, 3, temperature))
    one = result_of(prior_model.find_directions(few))
    more = result_of(prior_model.draw(model, None, DIRECTION_DRAWS, 3, 1.0))
    other = result_of(prior_model.find_directions(more))
    assert torch.allclose(one.scales, other.scales, rtol=1e-4)
    assert torch.allclose(one.axes, other.axes, atol=1e-4)
    # The draws for the directions take fewer steps.
    correlation = torch.corrcoef(torch.stack([one.centre.flatten(), more.latents.mean(0).flatten()]))[0, 1]
    assert correlation > 0.95
    assert result_of(prior_model.find_directions(few)) is one


def test_a_morph_begins_at_a_draw_or_at_the_mean(draws):
    directions = result_of(prior_model.find_directions(draws))
    assert np.allclose(prior_model.morphed(draws, directions, 2, (0, 0, 0)), draws.densities[2], atol=1e-5)
    mean = prior_model.morphed(draws, directions, None, (0, 0, 0))
    assert np.allclose(mean, draws.prior.density(directions.centre), atol=1e-5)
    moved = [prior_model.morphed(draws, directions, 2, amounts) for amounts in ((2, 0, 0), (0, 2, 0), (-2, 0, 0))]
    assert all(np.abs(density - draws.densities[2]).max() > 1e-3 for density in moved)
    assert not np.allclose(moved[0], moved[2], atol=1e-3)


# The window


@pytest.fixture
def widget(make_viewer, qtbot, shown, model):
    from cryovae.napari_plugin.latent_widget import LatentWidget

    viewer = make_viewer(show=True)
    made = LatentWidget(viewer)
    viewer.window.add_dock_widget(made, name="latent")
    made.controls.source.setCurrentIndex(1)
    made.prior.controls.path.line.setText(str(model))
    made.prior.controls.count.setValue(3)
    yield made
    made.cancel()
    qtbot.waitUntil(lambda: made.worker is None, timeout=20000)


@pytest.fixture
def ready(widget, qtbot):
    """The panel with draws."""
    pressed(widget, qtbot, "draw")
    return widget


def pressed(widget, qtbot, name):
    """A button is pressed, and its work ends."""
    getattr(widget.prior.controls, name).click()
    qtbot.waitUntil(lambda: widget.worker is None, timeout=20000)


def displayed(widget):
    """The density in the panel."""
    return widget.prior.controls.slices.density


def test_the_learned_prior_takes_the_place_of_the_run(widget):
    assert widget.prior.isVisible()
    assert not widget.controls.canvas.isVisible()
    assert not widget.prior.controls.walking.isEnabled()
    widget.controls.source.setCurrentIndex(0)
    assert not widget.prior.isVisible()
    assert widget.controls.canvas.isVisible()


def test_draws_are_a_layer_with_the_voxel_size_and_repeat(widget, qtbot, shown):
    c = widget.prior.controls
    c.voxel_size.setValue(7.5)
    c.draw.click()
    assert not c.draw.isEnabled()
    assert not widget.controls.source.isEnabled()
    qtbot.waitUntil(lambda: widget.worker is None, timeout=20000)
    assert not shown
    assert c.draw.isEnabled()
    assert widget.controls.source.isEnabled()
    layer = widget.viewer.layers["draws of the prior"]
    first = np.array(layer.data)
    assert first.shape == (3, SIDE, SIDE, SIDE)
    assert np.allclose(layer.scale, (1, 7.5, 7.5, 7.5))
    assert [str(unit) for unit in layer.units] == ["pixel", "angstrom", "angstrom", "angstrom"]
    c.seed.setValue(1)
    pressed(widget, qtbot, "draw")
    assert not np.allclose(layer.data, first, atol=1e-2)
    c.seed.setValue(0)
    pressed(widget, qtbot, "draw")
    assert np.array_equal(layer.data, first)
    c.temperature.setValue(50)
    assert c.degree.text() == "temperature 0.50"
    pressed(widget, qtbot, "draw")
    assert widget.prior.draws.temperature == 0.5
    assert "seed 0, temperature 0.5" in c.state.text()


def test_draws_lie_beside_a_tomogram_and_leave_it_as_it_is(widget, qtbot):
    tomogram = widget.viewer.add_image(np.zeros((20, 30, 24)), scale=(10, 10, 10), units=("angstrom",) * 3)
    pressed(widget, qtbot, "draw")
    layer = widget.viewer.layers["draws of the prior"]
    assert layer.translate[-1] > 230
    assert tomogram.visible
    assert widget.viewer.layers.selection.active is tomogram
    place = widget.viewer.dims.point[-3]
    assert layer.translate[-3] <= place <= layer.translate[-3] + SIDE * 10


def test_the_first_slider_of_the_viewer_chooses_the_draw(ready):
    panel = ready.prior
    assert np.array_equal(displayed(ready), panel.draws.densities[0])
    ready.viewer.dims.set_point(0, 2)
    assert np.array_equal(displayed(ready), panel.draws.densities[2])
    assert panel.controls.slices.caption.text() == "draw 2 of 0 to 2"


def test_the_slider_goes_along_the_walk(ready, qtbot, shown):
    panel, c = ready.prior, ready.prior.controls
    c.first.setValue(2)
    c.last.setValue(1)
    c.steps.setValue(5)
    pressed(ready, qtbot, "walk")
    assert not shown
    layer = ready.viewer.layers["walk in the prior"]
    assert layer.data.shape == (5, SIDE, SIDE, SIDE)
    assert not ready.viewer.layers["draws of the prior"].visible
    assert np.array_equal(displayed(ready), panel.draws.densities[2])
    c.way.setValue(2)
    assert np.array_equal(displayed(ready), layer.data[2])
    assert ready.viewer.dims.point[0] == 2
    ready.viewer.dims.set_point(0, 4)
    assert c.way.value() == 4
    assert np.array_equal(displayed(ready), panel.draws.densities[1])
    c.last.setValue(2)
    pressed(ready, qtbot, "walk")
    assert "two different draws" in shown[0]


def test_sliders_morph_the_draw_in_view_along_directions(ready, qtbot, shown):
    panel, c = ready.prior, ready.prior.controls
    ready.viewer.dims.set_point(0, 1)
    assert c.number.value() == 1
    assert not c.amounts[0].isEnabled()
    pressed(ready, qtbot, "find")
    qtbot.waitUntil(lambda: "morph in the prior" in ready.viewer.layers, timeout=5000)
    assert not shown
    assert np.allclose(displayed(ready), panel.draws.densities[1], atol=1e-5)
    c.amounts[1].setValue(c.amounts[1].maximum())
    assert c.captions[1].text().startswith("2: +3.0 std (")
    expected = prior_model.morphed(panel.draws, panel.directions, 1, (0, 3, 0))
    qtbot.waitUntil(lambda: np.allclose(displayed(ready), expected, atol=1e-5), timeout=5000)
    assert np.allclose(ready.viewer.layers["morph in the prior"].data, expected, atol=1e-5)
    assert not np.allclose(expected, panel.draws.densities[1], atol=1e-3)
    c.number.setValue(2)
    other = prior_model.morphed(panel.draws, panel.directions, 2, (0, 3, 0))
    qtbot.waitUntil(lambda: np.allclose(displayed(ready), other, atol=1e-5), timeout=5000)
    c.centre.setCurrentIndex(1)
    qtbot.waitUntil(lambda: c.slices.caption.text().startswith("the mean of the draws"), timeout=5000)
    c.rest.click()
    centre = panel.draws.prior.density(panel.directions.centre)
    qtbot.waitUntil(lambda: np.allclose(displayed(ready), centre, atol=1e-5), timeout=5000)


def test_drawing_is_cancelled_and_nothing_is_shown(widget, qtbot, shown):
    c = widget.prior.controls
    c.count.setValue(256)
    c.draw.click()
    c.cancel.click()
    qtbot.waitUntil(lambda: widget.worker is None, timeout=20000)
    assert not shown
    assert widget.prior.draws is None
    assert c.draw.isEnabled()
    assert "draws of the prior" not in widget.viewer.layers


def test_work_that_ends_within_its_progress_leaves_no_bar(widget):
    """napari handles events while it shows progress."""
    panel, ended = widget.prior, []

    class Bar:
        total = n = 0

        def update(self, steps):
            panel.work_ended()

        def close(self):
            ended.append(True)

    panel._bar = Bar()
    panel._show_progress((4, 4))
    panel._show_progress((4, 4))
    assert ended == [True]
    assert panel._bar is None
    assert panel.controls.state.text().startswith("Press Draw")


def test_a_removed_layer_comes_back_with_the_next_draw(ready, qtbot):
    ready.viewer.layers.clear()
    pressed(ready, qtbot, "walk")
    assert "walk in the prior" in ready.viewer.layers
    pressed(ready, qtbot, "draw")
    assert "draws of the prior" in ready.viewer.layers


@pytest.mark.parametrize("kind", ["no file", "text", "other model", "cut short"])
def test_what_is_no_generative_model_is_one_line(widget, tmp_path, qtbot, shown, model, kind):
    path = tmp_path / "model.safetensors"
    if kind == "text":
        path.write_text("nothing")
    elif kind == "other model":
        save_network(path, NetworkCheckpoint(UNet(LadderConfig((4, 6), (1, 1), 1)), 16, 5, "deepdewedge"))
    elif kind == "cut short":
        path.write_bytes(Path(model).read_bytes()[:-100])
    widget.prior.controls.path.line.setText(str(path))
    pressed(widget, qtbot, "draw")
    assert len(shown) == 1
    assert "\n" not in shown[0]
    assert str(path) in shown[0]
    words = {"no file": "does not exist", "text": "no safetensors", "other model": "no generative model", "cut short": "no safe"}
    assert words[kind] in shown[0]
    assert widget.prior.draws is None
    assert widget.prior.controls.draw.isEnabled()
