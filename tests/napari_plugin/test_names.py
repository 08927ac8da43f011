"""Names of layers and runs in the plugin: they become files, patterns of files and labels, and are read as nothing else."""

import json

import mrcfile
import numpy as np
import pytest

from cryovae.evaluation.region import Box
from cryovae.io.geometry_record import recorded
from cryovae.io.names import fault_of
from cryovae.napari_plugin.compare_model import halves_of
from cryovae.napari_plugin.contents import layers_of_run
from cryovae.napari_plugin.restore_model import Request, arguments_of
from cryovae.tomogram import TiltGeometry
from tests.conftest import write_mrc
from tests.napari_plugin.test_restore_model import SHAPE, layer

STRANGE = "ts[0-9]{x} 'q' $_^$ #1*"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("..", "tomogram"), ("", "tomogram"), ("a\nb", "a_b"), (STRANGE, STRANGE), ("TS 1 [2]", "TS 1 [2]"), ("x" * 300, "x" * 150)],
    ids=["folder", "empty", "newline", "strange", "number", "long"],
)
def test_the_name_of_a_layer_becomes_a_file_that_can_be(name, expected, tmp_path):
    words = arguments_of(Request((layer(name=name),), tmp_path / "out", box=Box((2, 0, 5), (22, 30, 25))))
    written = list((tmp_path / "out" / "inputs").iterdir())
    assert [str(path) for path in written] == [words[1]]
    assert written[0].name == f"{expected}.mrc"
    assert fault_of(written[0].stem) is None
    assert mrcfile.read(written[0]).shape == (20, 30, 20)
    assert SHAPE == (24, 40, 32)


def test_a_run_with_a_pattern_for_a_name_shows_its_own_files(tmp_path):
    volume = np.random.default_rng(0).normal(size=(6, 10, 8)).astype(np.float32)
    for name in (STRANGE, "ts0x 'q' $_^$ #1y"):
        for kind in ("mean", "std", "mean_half1", "mean_half2"):
            write_mrc(tmp_path / f"{name}_{kind}.mrc", volume + len(name), 7.0)
    record = {"name": STRANGE, "status": "done", "inputs": {}, "tilts": recorded(TiltGeometry.from_range(-60, 50))}
    (tmp_path / "run.json").write_text(json.dumps(record))
    roles = {options["metadata"]["cryovae"]["role"]: data for data, options, _ in layers_of_run(tmp_path)}
    assert np.array_equal(roles["mean"], volume + len(STRANGE))
    assert set(halves_of(tmp_path)) == {"restored"}


def test_labels_of_the_plugin_show_names_as_they_are(window, qtbot):
    from qtpy.QtCore import Qt

    from cryovae.napari_plugin.controls import note, plain_label

    for label in (note("<b>a</b>"), plain_label("<img src=x>")):
        qtbot.addWidget(label)
        assert label.textFormat() == Qt.TextFormat.PlainText
        assert label.text().startswith("<")


def test_no_label_of_the_plugin_is_made_elsewhere():
    from pathlib import Path

    import cryovae.napari_plugin

    for file in Path(cryovae.napari_plugin.__file__).parent.glob("*.py"):
        made = [line for line in file.read_text().splitlines() if "QLabel(" in line and "QLabel(plane)" not in line]
        assert made == (["    label = QLabel(parent)"] if file.name == "controls.py" else []), file


def test_a_layer_that_begins_with_an_underscore_is_in_a_legend():
    from cryovae.napari_plugin.plots import listed

    assert [listed(name) for name in ("_a", "a")] == [" _a", "a"]
