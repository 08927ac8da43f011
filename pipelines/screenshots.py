"""Pictures of the widgets of the napari plugin: python pipelines/screenshots.py RUN [--out FOLDER] [--name NAME].

NAME_restore, _swipe, _compare, _volume, _uncertainty and _latent.png, made by buttons that a user has, and saved as the button
Save picture of the View widget saves them. The run needs its inputs, its model and samples. A screen is needed, which may be
Xvfb: pipelines/screenshots.sh starts one, and restores a sample first.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from napari import Viewer
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QDockWidget, QMainWindow

from cryovae.napari_plugin.compare_controls import OFF, SIDE, SWIPE
from cryovae.napari_plugin.compare_model import default_pair
from cryovae.napari_plugin.contents import layer_of_file
from cryovae.napari_plugin.layers import LayerTuple
from cryovae.napari_plugin.opening import layers_at, opened
from cryovae.napari_plugin.picture import save_picture
from cryovae.workflows.run_inputs import inputs_in, record_of

SIZE = (1280, 940)
# Steps of the training in the picture of the Restore widget.
STEPS = 120
DOCK = 380


def wait(seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
    """Process events for a time, or until a condition holds; returns whether it does."""
    began = time.monotonic()
    while time.monotonic() - began < seconds and not until():
        QApplication.processEvents()
        time.sleep(0.01)
    return until()


class Camera:
    """A viewer with layers and one widget, and the folder into which its pictures go."""

    def __init__(self, layers: list[LayerTuple], out: Path, name: str) -> None:
        self.viewer: Viewer = opened(layers, f"cryovae: {name}", ())
        self.out, self.name = out, name
        self.dock: Any = None
        self.window = next(w for w in QApplication.topLevelWidgets() if isinstance(w, QMainWindow) and w.isVisible())
        self.window.resize(*SIZE)
        for dock in self.window.findChildren(QDockWidget):
            if dock.objectName() == "layer controls":
                dock.hide()
        wait(1)

    def widget(self, title: str) -> Any:
        """One widget in the dock; the one before it is closed."""
        if self.dock is not None:
            self.dock.destroyOnClose()
        self.dock, widget = self.viewer.window.add_plugin_dock_widget("cryovae", title)
        left = [dock for dock in self.window.findChildren(QDockWidget) if dock.objectName() == "layer list"]
        self.window.resizeDocks([*left, self.dock], [190] * len(left) + [DOCK], Qt.Orientation.Horizontal)
        wait(0.5)
        self.viewer.reset_view()
        return widget

    def shoot(self, what: str) -> None:
        """The whole window as a small PNG, as the button Save picture of the View widget makes it."""
        wait(1)
        path = save_picture(self.viewer, self.out / f"{self.name}_{what}.png")
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def compare(camera: Camera) -> None:
    """The swipe with the values of a voxel; xz in two cells, with their spectra; both volumes in 3D."""
    widget = camera.widget("Compare")
    widget.look_at(strongest(camera))
    widget.controls.set_mode(SWIPE)
    camera.shoot("swipe")
    flat = camera.viewer.dims.order
    camera.viewer.dims.order = (*flat[:-3], flat[-2], flat[-3], flat[-1])
    widget.controls.set_mode(SIDE)
    wait(0.5)
    widget.measure()
    if not wait(60, lambda: widget.comparison is not None and widget.worker is None):
        raise SystemExit("nothing was measured: see the notification in the window")
    camera.shoot("compare")
    widget.controls.set_mode(OFF)
    camera.viewer.dims.order = flat


def strongest(camera: Camera) -> tuple[float, ...]:
    """The voxel in the middle half of the middle slice where the mean is farthest from its median, in angstrom."""
    mean = default_pair(camera.viewer.layers)[1]
    middle = mean.data.shape[0] // 2
    values = np.asarray(mean.data[middle], dtype=np.float32)
    edges = tuple(size // 4 for size in values.shape)
    inner = np.abs(values - np.median(values))[edges[0] : -edges[0], edges[1] : -edges[1]]
    y, x = (int(i) + edge for i, edge in zip(np.unravel_index(inner.argmax(), inner.shape), edges, strict=True))
    return tuple(float(i * s) for i, s in zip((middle, y, x), mean.scale, strict=True))


def look(camera: Camera) -> None:
    """Input and mean in 3D side by side, by the button of the View widget."""
    widget = camera.widget("View")
    widget.controls.next.click()
    wait(30, lambda: widget.slices is not None and widget.worker is None)
    widget.controls.show_3d.click()
    if not wait(60, lambda: widget.temporary.shown and widget.worker is None):
        raise SystemExit("nothing was shown in 3D: see the notification in the window")
    camera.shoot("volume")
    widget.controls.show_3d.click()


def uncertainty(camera: Camera) -> None:
    """The standard deviation over the mean."""
    widget = camera.widget("Uncertainty")
    widget.controls.cover.click()
    camera.shoot("uncertainty")


def explore(camera: Camera) -> None:
    """The plane of the patches, and one decoded patch."""
    widget = camera.widget("Explore the latent space")
    widget.start()
    if not wait(300, lambda: widget.explorer is not None and widget.worker is None):
        raise SystemExit("the patches could not be encoded: is the model of the run there?")
    widget.pick(strongest(camera))
    wait(30, lambda: not widget.latest.busy)
    outline(widget)
    camera.viewer.reset_view()
    camera.shoot("latent")


def outline(widget: Any) -> None:
    """A group of patches: those in the right third of the plane."""
    points = widget.explorer.points
    low, high = points.min(0), points.max(0)
    left = float(np.quantile(points[:, 0], 0.7))
    widget.choose_group([(left, low[1] - 1), (high[0] + 1, low[1] - 1), (high[0] + 1, high[1] + 1), (left, high[1] + 1)])


def restoring(run: Path, out: Path, name: str) -> None:
    """The inputs of a run restored again: the form, and the progress of training."""
    volumes = [path for role, path in inputs_in(record_of(run)).items() if role in ("tomogram", "half1", "half2")]
    camera = Camera([layer_of_file(path) for path in volumes], out, name)
    widget = camera.widget("Restore tomogram")
    with TemporaryDirectory() as folder:
        widget.controls.output.line.setText(str(Path(folder) / "restored"))
        for option, value in {"steps": str(STEPS), "preset": "quick", "settings": "training.validate_every=20"}.items():
            widget.controls.options[option].put(value)
        widget.controls.run.click()
        job = widget.job
        if not wait(1200, lambda: not job.running or job.state().done >= STEPS * 0.9):
            raise SystemExit("training did not progress")
        widget.look()
        shown = camera.viewer.layers[-1]
        camera.viewer.dims.set_point(0, float(np.mean(shown.extent.world[:, 0])))
        # The picture shows no folder of the machine.
        widget.controls.output.line.setText("restored")
        tilts = widget.controls.options["tilts"]
        tilts.put(Path(str(tilts.text)).name)
        # What is said of the form stays that of the paths as they were.
        widget.halt_estimate()
        camera.shoot("restore")
        widget.cancel()
        wait(60, lambda: not job.running)
    camera.viewer.close()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Pictures of the widgets of the napari plugin at work on a run")
    parser.add_argument("run", type=Path, help="the folder of a run of cryovae restore")
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"), help="where the pictures go")
    parser.add_argument("--name", default=None, help="how they begin; the name of the run's folder by default")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    name = arguments.name or arguments.run.name
    restoring(arguments.run, arguments.out, name)
    camera = Camera(layers_at(arguments.run), arguments.out, name)
    for part in (compare, look, uncertainty, explore):
        part(camera)
    camera.viewer.close()


if __name__ == "__main__":
    main()
