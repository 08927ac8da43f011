"""Restore, driven as by a user: halves chosen, run, cancelled and resumed; the same volumes as from a shell; what goes wrong."""

import shlex

import mrcfile
import numpy as np
import pytest
from typer.testing import CliRunner

from cryovae.checkpoint import STATE
from cryovae.cli.app import app
from cryovae.napari_plugin.contents import layer_of_file
from cryovae.napari_plugin.layers import of_role
from cryovae.workflows.run_folder import read_record

SETTINGS = (
    "ladder.widths=[4,6,8] ladder.latents=[2,3,4] ladder.blocks=1 training.patch=16 training.validate_every=10 "
    "training.checkpoint_minutes=0.001 restoration.sampler=amortised"
)


@pytest.fixture
def shown(monkeypatch):
    texts = []
    for module in ("notices", "restore_widget"):
        monkeypatch.setattr(f"cryovae.napari_plugin.{module}.show", texts.append)
    return texts


@pytest.fixture
def restoring(make_viewer, small_files, tmp_path, shown, monkeypatch):
    """A window with both halves and the widget, filled for a run of seconds."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    viewer = make_viewer()
    for half in ("half1", "half2"):
        data, options, _ = layer_of_file(small_files[half])
        viewer.add_image(data, **options)
    _, widget = viewer.window.add_plugin_dock_widget("cryovae", "Restore tomogram")
    c = widget.controls
    c.more.setText(SETTINGS)
    c.settings["training.steps"].setValue(12)
    c.settings["restoration.samples"].setValue(2)
    c.settings["restoration.samples_out"].setValue(2)
    c.output.line.setText(str(tmp_path / "out"))
    return viewer, widget


def ended(widget):
    assert not widget.timer.isActive()


@pytest.mark.slow
def test_a_run_gives_what_a_shell_gives(restoring, qtbot, small_files, tmp_path, shown):
    viewer, widget = restoring
    c = widget.controls
    assert c.halves.isChecked()
    assert c.first.currentText() != c.second.currentText()
    assert (c.lowest.value(), c.highest.value()) == (-60.0, 60.0)
    assert c.tilts.path == small_files["tilts"]
    c.run.click()
    assert not c.run.isEnabled()
    qtbot.waitUntil(lambda: ended(widget), timeout=120_000)
    assert shown == []
    assert "Done" in c.state.text()
    assert c.losses.isVisibleTo(widget)
    mean, std = (of_role(viewer.layers, role, str(tmp_path / "out")) for role in ("mean", "std"))
    assert mean.data.shape == viewer.layers[0].data.shape
    assert of_role(viewer.layers, "samples").data.shape[0] == 2
    assert of_role(viewer.layers, "preview") is None

    halves = ["--half1", small_files["half1"], "--half2", small_files["half2"], "--tilts", small_files["tilts"]]
    settings = [word for setting in shlex.split(SETTINGS) for word in ("--set", setting)]
    words = ["restore", *halves, "-o", tmp_path / "shell", "--preset", "quick", "--steps", "12", "--samples", "2", *settings]
    assert CliRunner().invoke(app, [str(word) for word in [*words, "--seed", "0"]]).exit_code == 0
    for kind, layer in (("mean", mean), ("std", std)):
        (path,) = (tmp_path / "shell").glob(f"*_{kind}.mrc")
        assert np.array_equal(mrcfile.read(path), np.asarray(layer.data))


@pytest.mark.slow
def test_cancelled_it_is_resumed_and_a_layer_may_go_meanwhile(restoring, qtbot, small_files, tmp_path, shown):
    viewer, widget = restoring
    c = widget.controls
    c.settings["training.steps"].setValue(80)
    c.run.click()
    qtbot.waitUntil(lambda: widget.job.state().phase == "training" and widget.job.state().done > 0, timeout=60_000)
    viewer.layers.remove(viewer.layers[0])
    assert len(shown) == 1
    assert "was removed" in shown[0]
    c.cancel.click()
    qtbot.waitUntil(lambda: ended(widget), timeout=60_000)
    assert len(shown) == 1
    assert "Resume continues" in c.state.text()
    assert read_record(tmp_path / "out/run.json")["status"] == "stopped"
    # What was removed is chosen anew, from the same file.
    data, options, _ = layer_of_file(small_files["half1"])
    viewer.add_image(data, **options)
    c.first.setCurrentText(viewer.layers[-1].name)
    c.resume.click()
    qtbot.waitUntil(lambda: ended(widget), timeout=120_000)
    assert len(shown) == 1
    assert "resumed at step" in (tmp_path / "out/run.log").read_text()
    assert of_role(viewer.layers, "mean") is not None


@pytest.mark.slow
def test_a_region_is_restored_in_its_place(restoring, qtbot, tmp_path, shown):
    viewer, widget = restoring
    c = widget.controls
    c.region.setChecked(True)
    c.depth.setValue(16)
    viewer.add_shapes([[[0, 40, 50], [0, 40, 250], [0, 280, 250], [0, 280, 50]]], shape_type="rectangle")
    viewer.dims.set_point(0, 100)
    c.run.click()
    qtbot.waitUntil(lambda: ended(widget), timeout=120_000)
    assert shown == []
    mean = of_role(viewer.layers, "mean")
    assert mean.data.shape == (16, 24, 20)
    assert tuple(mean.translate) == (20.0, 40.0, 50.0)


def test_what_goes_wrong_is_one_notification(restoring, qtbot, tmp_path, shown):
    _, widget = restoring
    c = widget.controls
    c.second.setCurrentText(c.first.currentText())
    c.run.click()
    assert len(shown) == 1
    assert "two halves chosen" in shown.pop()
    c.halves.setChecked(False)
    wrong = tmp_path / "wrong.tlt"
    wrong.write_text("nothing of the kind\n")
    c.tilts.line.setText(str(wrong))
    c.run.click()
    qtbot.waitUntil(lambda: ended(widget), timeout=60_000)
    assert len(shown) == 1
    assert "wrong.tlt" in shown[0]
    assert c.run.isEnabled()
    assert not list((tmp_path / "out").glob("*.mrc"))


@pytest.mark.slow
def test_a_closed_window_lets_the_run_save_and_leave(restoring, qtbot, tmp_path, shown):
    viewer, widget = restoring
    widget.controls.settings["training.steps"].setValue(400)
    widget.controls.run.click()
    job = widget.job
    qtbot.waitUntil(lambda: job.state().phase == "training" and job.state().done > 0, timeout=60_000)
    viewer.window.remove_dock_widget("all")
    qtbot.waitUntil(lambda: not job.running, timeout=60_000)
    assert job.ended == 75
    assert (tmp_path / "out" / STATE).exists()
    assert shown == []
