"""The uncertainty, driven as by a user: colours over the mean, the slider that fades, the loop, and a run without error bars."""

import json

import numpy as np
import pytest

from cryovae.napari_plugin.layers import layer_for
from cryovae.napari_plugin.uncertainty_model import NO_SAMPLES

SHAPE = (20, 40, 36)


def show_run(viewer, run, roles, objective="vae", held_out=None):
    """The layers of a run: all stands still left of the middle; right of it the std is 10 times that on the left."""
    run.mkdir()
    record = {"name": run.name, "config": {"objective": {"name": objective}}, "restoration": {"held_out": held_out}}
    (run / "run.json").write_text(json.dumps(record))
    rng = np.random.default_rng(0)
    std = np.full(SHAPE, 0.05, np.float32) * rng.uniform(0.9, 1.1, SHAPE).astype(np.float32)
    std[..., 18:] *= 10
    mean = rng.normal(size=SHAPE).astype(np.float32)
    mean[:, ::2] += 4
    pairs = [sign * d for d in rng.normal(size=(2, *SHAPE)) for sign in (1, -1)]
    moved = np.where(np.arange(SHAPE[2]) < 18, 0, 1)
    samples = np.stack([mean + moved * pair for pair in pairs]).astype(np.float32)
    densities = {"input": mean, "mean": mean, "std": std, "samples": samples}
    for role in roles:
        visible = role in ("input", "mean")
        data, options, _ = layer_for(densities[role], role, f"{run.name} {role}", 10.0, run=run, visible=visible)
        viewer.add_image(data, **options)


def sides(viewer):
    """The pixels of the canvas a little left and right of its middle, as RGB."""
    picture = viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(float)
    rows, columns = picture.shape[:2]
    band = picture[rows // 2 - 60 : rows // 2 + 60]
    return band[:, columns // 2 - 120 : columns // 2 - 20], band[:, columns // 2 + 20 : columns // 2 + 120]


def state(viewer):
    layers = [(layer.name, layer.visible, tuple(layer.contrast_limits)) for layer in viewer.layers]
    return layers, tuple(viewer.dims.current_step), viewer.layers.selection.active


def redness(pixels):
    return (pixels[..., 0] - pixels[..., 2]).mean()


@pytest.mark.slow
def test_uncertainty_is_coloured_faded_and_played(make_viewer, qtbot, tmp_path, shown):
    viewer = make_viewer(show=True)
    show_run(viewer, tmp_path / "a", ("input", "mean", "std", "samples"))
    dock, widget = viewer.window.add_plugin_dock_widget("cryovae", "Uncertainty")
    viewer.window._qt_window.resize(1200, 800)
    qtbot.wait(100)
    controls, before = widget.controls, state(viewer)

    controls.cover.click()
    certain, uncertain = sides(viewer)
    assert redness(certain) < 10
    assert redness(uncertain) > 60
    assert controls.legend.isVisible()
    controls.opacity.setValue(0)
    assert redness(sides(viewer)[1]) < 10
    controls.cover.click()
    assert state(viewer) == before

    controls.fade.click()
    controls.level.setValue(500)
    assert "50 % of the voxels kept" in controls.kept.text()
    certain, uncertain = sides(viewer)
    assert certain.std() > 40
    assert uncertain.std() < 2
    controls.level.setValue(1000)
    assert sides(viewer)[1].std() > 40
    controls.fade.click()

    controls.speed.setValue(0)
    controls.play.click()
    assert not widget.timer.isActive()
    first = sides(viewer)
    viewer.dims.set_current_step(0, 5)
    second = sides(viewer)
    assert np.abs(second[0] - first[0]).max() < 2
    assert np.abs(second[1] - first[1]).mean() > 10
    seen = set()
    viewer.dims.events.current_step.connect(lambda event: seen.add(viewer.dims.current_step[0]))
    controls.speed.setValue(50)
    qtbot.waitUntil(lambda: len(seen) >= 4, timeout=10000)
    dock.destroyOnClose()
    assert not widget.timer.isActive()
    assert state(viewer) == before
    assert shown == []


def test_what_a_run_lacks_is_one_message(make_viewer, tmp_path, shown):
    viewer = make_viewer()
    show_run(viewer, tmp_path / "plain", ("mean",), "isonet2")
    _, widget = viewer.window.add_plugin_dock_widget("cryovae", "Uncertainty")
    assert shown == []
    widget.controls.cover.click()
    assert len(shown) == 1
    assert "isonet2" in shown[0]
    assert not widget.controls.cover.isChecked()
    show_run(viewer, tmp_path / "few", ("mean", "std"))
    widget.controls.mean.setCurrentText("few mean")
    widget.controls.play.click()
    assert widget.controls.missing.text() == NO_SAMPLES
    assert not widget.controls.play.isChecked()
    assert not widget.temporary.shown
    widget.controls.cover.click()
    viewer.layers.remove(viewer.layers["few mean"])
    assert not widget.temporary.shown
    assert not widget.controls.cover.isChecked()
    assert len(shown) == 1


def test_a_std_that_is_off_is_said_in_red_and_multiplied(make_viewer, tmp_path, shown):
    viewer = make_viewer()
    show_run(viewer, tmp_path / "good", ("mean", "std"), held_out={"rms_over_std_fitted": 1.1, "bins": 900, "patches": 4})
    _, widget = viewer.window.add_plugin_dock_widget("cryovae", "Uncertainty")
    c = widget.controls
    assert "on held-out data, to which they were scaled, errors are 1.10 times the standard deviation" in c.calibration.text()
    assert not c.multiply.isVisibleTo(widget)
    assert "color" not in c.calibration.styleSheet()
    show_run(viewer, tmp_path / "small", ("mean", "std"), held_out={"rms_over_std_fitted": 1.6, "bins": 900, "patches": 4})
    c.mean.setCurrentText("small mean")
    assert "too small" in c.calibration.text()
    assert "#e05252" in c.calibration.styleSheet()
    assert c.multiply.text() == "Multiply by 1.60"
    c.cover.click()
    before = widget.statistics.shown
    c.multiply.click()
    larger = viewer.layers["small std × 1.60"]
    assert np.allclose(np.asarray(larger.data[3]), 1.6 * np.asarray(viewer.layers["small std"].data[3]), rtol=1e-5)
    assert widget.statistics.shown == pytest.approx([1.6 * one for one in before], rel=1e-3)
    assert not c.multiply.isVisibleTo(widget)
    assert "× 1.60 is shown" in c.calibration.text()
    viewer.layers.remove(larger)
    assert c.multiply.isVisibleTo(widget)
    c.cover.click()
    assert widget.statistics.shown == pytest.approx(before)
    assert shown == []
