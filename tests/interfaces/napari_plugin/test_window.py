import numpy as np


def test_a_window_shows_what_is_in_a_layer(make_viewer, qtbot):
    """Not a blank canvas: the software GL works, and pixels follow the data."""
    viewer = make_viewer(show=True)
    density = np.zeros((6, 40, 60), dtype=np.float32)
    density[:, :, 30:] = 1
    viewer.add_image(density, contrast_limits=(0, 1))
    qtbot.waitUntil(lambda: viewer.screenshot(canvas_only=True, flash=False)[..., :3].std() > 20, timeout=10000)
