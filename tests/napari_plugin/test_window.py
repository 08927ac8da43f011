import numpy as np


def test_a_window_shows_what_is_in_a_layer(make_viewer, qtbot):
    """Not a blank canvas: the software GL works, and pixels follow the data."""
    viewer = make_viewer(show=True)
    density = np.zeros((6, 40, 60), dtype=np.float32)
    density[:, :, 30:] = 1
    viewer.add_image(density, contrast_limits=(0, 1))
    qtbot.waitUntil(lambda: viewer.screenshot(canvas_only=True, flash=False)[..., :3].std() > 20, timeout=10000)


def test_napari_finds_readers_sample_and_writer_of_the_plugin(make_viewer, tmp_path):
    """As a user does it: open sample, save a layer, open the file."""
    viewer = make_viewer()
    viewer.open_sample("cryovae", "sample")
    assert [layer.metadata["cryovae"]["role"] for layer in viewer.layers] == ["half1", "half2"]
    assert viewer.layers[0].scale.tolist() == [10.0, 10.0, 10.0]
    path = tmp_path / "saved.mrc"
    assert viewer.layers[0].save(str(path), plugin="cryovae") == [str(path)]
    [again] = viewer.open(str(path), plugin="cryovae")
    assert np.array_equal(again.data, viewer.layers[0].data)


def test_a_damaged_file_leaves_the_window_open_with_one_notification(make_viewer, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr("cryovae.napari_plugin.notices.show", shown.append)
    viewer = make_viewer()
    path = tmp_path / "a.mrc"
    path.write_bytes(b"no MRC" * 500)
    viewer.open(str(path), plugin="cryovae")
    assert len(viewer.layers) == 0
    assert len(shown) == 1
