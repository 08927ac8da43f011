"""Restore, driven as by a user: halves chosen, run, cancelled and resumed; the same volumes as from a shell; what goes wrong."""

import shlex
import time

import mrcfile
import numpy as np
import pytest
from qtpy.QtCore import QTimer
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
    values = {"preset": "quick", "settings": SETTINGS, "steps": "12", "samples": "2", "samples_out": "2", "start": "none"}
    for name, value in values.items():
        c.options[name].put(value)
    c.output.line.setText(str(tmp_path / "out"))
    return viewer, widget


def ended(widget):
    assert not widget.timer.isActive()
    assert not widget.results.adding.isActive()


@pytest.mark.slow
def test_a_run_gives_what_a_shell_gives(restoring, qtbot, small_files, tmp_path, shown):
    viewer, widget = restoring
    c = widget.controls
    assert c.halves.isChecked()
    assert c.first.currentText() != c.second.currentText()
    assert c.options["tilt_range"].value == (-60.0, 60.0)
    assert c.options["tilts"].value == [small_files["tilts"]]
    ticks, timer = [], QTimer()
    timer.timeout.connect(lambda: widget.job.running and ticks.append((time.thread_time(), time.monotonic())))
    c.run.click()
    timer.start(5)
    assert not c.run.isEnabled()
    qtbot.waitUntil(lambda: ended(widget), timeout=120_000)
    timer.stop()
    own, elapsed = np.diff(np.array(ticks), axis=0).max(0)
    print(f"longest stall: {1000 * own:.0f} ms of the window's own work, {1000 * elapsed:.0f} ms by the clock")
    assert own < 0.2
    assert shown == []
    assert "Done" in c.state.text()
    assert c.losses.isVisibleTo(widget)
    mean, std = (of_role(viewer.layers, role, str(tmp_path / "out")) for role in ("mean", "std"))
    assert mean.data.shape == viewer.layers[0].data.shape
    assert of_role(viewer.layers, "samples").data.shape[0] == 2
    assert of_role(viewer.layers, "preview") is None

    halves = ["--half1", small_files["half1"], "--half2", small_files["half2"], "--tilts", small_files["tilts"]]
    settings = [word for setting in shlex.split(SETTINGS) for word in ("--set", setting)]
    words = [
        "restore",
        *halves,
        "-o",
        tmp_path / "shell",
        "--preset",
        "quick",
        "--steps",
        "12",
        "--samples",
        "2",
        "--samples-out",
        "2",
        "--from",
        "none",
        *settings,
    ]
    assert CliRunner().invoke(app, [str(word) for word in [*words, "--seed", "0"]]).exit_code == 0
    for kind, layer in (("mean", mean), ("std", std)):
        (path,) = (tmp_path / "shell").glob(f"*_{kind}.mrc")
        assert np.array_equal(mrcfile.read(path), np.asarray(layer.data))


@pytest.mark.slow
def test_cancelled_it_is_resumed_and_a_layer_may_go_meanwhile(restoring, qtbot, small_files, tmp_path, shown):
    viewer, widget = restoring
    c = widget.controls
    c.options["steps"].put("80")
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
    c.options["tilts"].put(str(wrong))
    c.run.click()
    qtbot.waitUntil(lambda: ended(widget), timeout=60_000)
    assert len(shown) == 1
    assert "wrong.tlt" in shown[0]
    assert c.run.isEnabled()
    assert not list((tmp_path / "out").glob("*.mrc"))


@pytest.mark.slow
def test_a_closed_window_lets_the_run_save_and_leave(restoring, qtbot, tmp_path, shown):
    viewer, widget = restoring
    widget.controls.options["steps"].put("400")
    widget.controls.run.click()
    job = widget.job
    qtbot.waitUntil(lambda: job.state().phase == "training" and job.state().done > 0, timeout=60_000)
    viewer.window.remove_dock_widget("all")
    qtbot.waitUntil(lambda: not job.running, timeout=60_000)
    assert job.ended == 75
    assert (tmp_path / "out" / STATE).exists()
    assert shown == []


def test_the_command_is_copied_and_is_the_run(restoring, small_files, tmp_path, shown, monkeypatch):
    from qtpy.QtWidgets import QApplication

    _, widget = restoring
    c = widget.controls
    for name, value in {"handedness": "-1", "thickness": "40", "memory": "3GB", "outputs": "std,samples", "cone": True}.items():
        c.options[name].put(value)
    c.command.click()
    line = QApplication.clipboard().text()
    assert line in c.line.text()
    requests = []
    monkeypatch.setattr("cryovae.workflows.run.restore", lambda request: requests.append(request) or tmp_path)
    assert CliRunner().invoke(app, shlex.split(line)[1:]).exit_code == 0
    (request,) = requests
    assert (request.half1, request.half2) == (small_files["half1"], small_files["half2"])
    assert request.geometry.tilts == [small_files["tilts"]]
    assert (request.geometry.adjustment.handedness, request.geometry.adjustment.thickness) == (-1, 40)
    assert request.geometry.adjustment.cone
    assert (request.compute.memory, request.settings.outputs, request.settings.steps) == ("3GB", "std,samples", 12)
    assert request.start == "none"
    assert not request.results.overwrite
    assert not (tmp_path / "out").exists()
    assert shown == []


def test_run_asks_before_it_replaces_and_numbers_otherwise(restoring, tmp_path, shown, monkeypatch):
    _, widget = restoring
    c, begun, asked = widget.controls, [], []
    monkeypatch.setattr(widget, "_start", lambda request, words: begun.append((request.output, "--overwrite" in words)))
    wishes = iter(["cancel", "replace", "new folder"])
    monkeypatch.setattr(
        "cryovae.napari_plugin.restore_widget.ask_about", lambda folder, other: asked.append((folder, other)) or next(wishes)
    )
    out = tmp_path / "out"
    c.run.click()
    assert begun.pop() == (out, False)
    assert asked == []
    out.mkdir()
    (out / "a_mean.mrc").write_text("results")
    for expected in ([], [(out, True)], [(tmp_path / "out_2", False)]):
        c.output.line.setText(str(out))
        c.run.click()
        assert begun == expected
        begun.clear()
    assert asked == [(out, tmp_path / "out_2")] * 3
    assert (out / "a_mean.mrc").read_text() == "results"
    # A folder that was only proposed is numbered without a question.
    widget._fill_folder(out)
    assert c.output.line.text() == str(tmp_path / "out_2")
    (tmp_path / "out_2").mkdir()
    (tmp_path / "out_2" / "b.mrc").touch()
    c.run.click()
    assert begun == [(tmp_path / "out_3", False)]
    assert len(asked) == 3
    assert shown == []


def test_what_the_form_lacks_is_said_before_run(restoring, qtbot):
    _, widget = restoring
    c = widget.controls
    c.options["samples"].put("7")
    qtbot.waitUntil(lambda: "Not ready" in c.estimate.text(), timeout=20_000)
    assert "7 samples" in c.estimate.text()
    c.options["samples"].put("4")
    qtbot.waitUntil(lambda: c.estimate.text().startswith("Time: about"), timeout=60_000)
    assert "Memory: about" in c.estimate.text()
    assert "(preset)" in c.options["patch"].control.placeholderText()


def test_the_wedge_of_the_form_is_drawn_beside_that_of_the_file(restoring, qtbot, shown):
    _, widget = restoring
    c = widget.controls
    c.geometry.expand()
    c.spectrum.click()
    qtbot.waitUntil(lambda: widget.worker is None and "Measuring" not in c.wedge_words.text(), timeout=30_000)
    assert "The file shows" in c.wedge_words.text()
    assert c.wedge.isVisibleTo(widget)
    assert shown == []


@pytest.mark.slow
def test_a_queue_runs_one_after_another_into_folders_of_their_own(restoring, qtbot, tmp_path, shown):
    _, widget = restoring
    c = widget.controls
    c.options["steps"].put("3")
    c.region.setChecked(True)
    c.depth.setValue(16)
    c.queue_one.click()
    assert widget.job.running
    c.queue_one.click()
    c.queue_one.click()
    assert c.waiting.count() == 2
    c.waiting.setCurrentRow(1)
    c.unqueue.click()
    assert c.waiting.count() == 1
    qtbot.waitUntil(lambda: ended(widget) and not widget.waiting, timeout=200_000)
    assert shown == []
    for name in ("out", "out_2"):
        assert read_record(tmp_path / name / "run.json")["status"] == "done"
    assert c.state.text().count("Done") == 2


def test_all_open_tomograms_are_queued_with_their_own_tilts(restoring, small_files, tmp_path, monkeypatch):
    viewer, widget = restoring
    begun = []
    monkeypatch.setattr(widget, "_start", lambda request, words: begun.append(words))
    single = tmp_path / "single" / "ts_9.mrc"
    single.parent.mkdir()
    single.write_bytes(small_files["half1"].read_bytes())
    (single.parent / "ts_9.tlt").write_text("-40\n0\n50\n")
    data, options, _ = layer_of_file(single)
    viewer.add_image(data, **options)
    widget.controls.queue_all.click()
    assert [words[1] for words in begun] == ["--half1", str(single)]
    assert begun[1][begun[1].index("--tilts") + 1] == str(single.with_suffix(".tlt"))
    assert begun[1][begun[1].index("--output") + 1] == str(single.parent / "restored")
