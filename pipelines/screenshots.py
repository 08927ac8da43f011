"""Pictures of the widgets of the napari plugin: python pipelines/screenshots.py RUN [--out FOLDER] [--name NAME].

NAME_restore, _swipe, _compare, _uncertainty, _volume and _latent.png, 1000 pixels wide and of 256 colours. The run needs its
inputs, its model and samples. A screen is needed, which may be Xvfb: pipelines/screenshots.sh starts one, and restores a sample
first.
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
from PIL import Image
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QDockWidget, QMainWindow

from cryovae.napari_plugin.compare_controls import OFF, SIDE, SWIPE
from cryovae.napari_plugin.compare_model import default_pair
from cryovae.napari_plugin.contents import layer_of_file
from cryovae.napari_plugin.layers import LayerTuple
from cryovae.napari_plugin.opening import layers_at, opened
from cryovae.napari_plugin.temporary_layers import TemporaryLayers, camera_of
from cryovae.workflows.run_inputs import inputs_in, record_of

SIZE = (1280, 940)
# Steps of the training in the picture of the Restore widget.
STEPS = 120
WIDTH, COLOURS = 1000, 256
# The channels of a grey pixel differ by less than this.
GREY = 24
DOCK = 380
# Angles of the camera in degrees, zoom relative to a full canvas, and percentiles of the contrast of volumes in 3D.
ANGLES, ZOOM, SEEN = (-12.0, 28.0, -12.0), 0.68, (60, 99.8)


def wait(seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
    """Process events for a time, or until a condition holds; returns whether it does."""
    began = time.monotonic()
    while time.monotonic() - began < seconds and not until():
        QApplication.processEvents()
        time.sleep(0.01)
    return until()


def palette_of(picture: Image.Image) -> Image.Image:
    """Half of the colours for grey pixels, half for the others, which are too few to have colours in a common palette."""
    pixels = np.asarray(picture)
    grey = np.ptp(pixels.astype(int), axis=-1) < GREY
    palette: list[int] = []
    for part in (pixels[grey], pixels[~grey]):
        if len(part):
            few = Image.fromarray(part[None]).quantize(COLOURS // 2, dither=Image.Dither.NONE, kmeans=2)
            palette += few.getpalette()[: 3 * (COLOURS // 2)]
    holder = Image.new("P", (1, 1))
    holder.putpalette(palette)
    return holder


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
        """The whole window as a small PNG."""
        wait(1)
        self.viewer.status = ""
        pixels = self.viewer.screenshot(canvas_only=False, flash=False)
        picture = Image.fromarray(pixels[..., :3])
        height = round(picture.height * WIDTH / picture.width)
        small = picture.resize((WIDTH, height), Image.Resampling.LANCZOS)
        path = self.out / f"{self.name}_{what}.png"
        small.quantize(palette=palette_of(small), dither=Image.Dither.NONE).save(path, optimize=True)
        print(f"{path}: {WIDTH} x {height}, {path.stat().st_size / 1000:.0f} kB")


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
    in_space(camera)


def strongest(camera: Camera) -> tuple[float, ...]:
    """The voxel in the middle half of the middle slice where the mean is farthest from its median, in angstrom."""
    mean = default_pair(camera.viewer.layers)[1]
    middle = mean.data.shape[0] // 2
    values = np.asarray(mean.data[middle], dtype=np.float32)
    edges = tuple(size // 4 for size in values.shape)
    inner = np.abs(values - np.median(values))[edges[0] : -edges[0], edges[1] : -edges[1]]
    y, x = (int(i) + edge for i, edge in zip(np.unravel_index(inner.argmax(), inner.shape), edges, strict=True))
    return tuple(float(i * s) for i, s in zip((middle, y, x), mean.scale, strict=True))


def in_space(camera: Camera) -> None:
    """Input and mean in 3D side by side, from above and the side; protein is bright, even if it is dark in the file."""
    pair = default_pair(camera.viewer.layers)
    mean = np.asarray(pair[1].data, dtype=np.float32)
    low, middle, high = np.percentile(mean, (0.1, 50, 99.9))
    sign = -1 if middle - low > high - middle else 1
    camera.dock.hide()
    temporary = TemporaryLayers(camera.viewer, lambda: None)
    temporary.begin()
    for layer in pair:
        density = sign * np.asarray(layer.data, dtype=np.float32)
        limits = tuple(np.percentile(density, SEEN))
        temporary.add(density, layer, f"{layer.name} in 3D", contrast_limits=limits, rendering="attenuated_mip", attenuation=0.02)
    camera.viewer.dims.ndisplay = 3
    temporary.side_by_side()
    for layer in temporary.layers:
        layer.name_overlay.visible = True
    wait(1)
    camera.viewer.reset_view()
    lens = camera_of(camera.viewer)
    lens.angles, lens.zoom = ANGLES, ZOOM * lens.zoom
    camera.shoot("volume")
    camera.viewer.dims.ndisplay = 2
    temporary.clear()
    camera.dock.show()


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
    camera.viewer.reset_view()
    camera.shoot("latent")


def restoring(run: Path, out: Path, name: str) -> None:
    """The inputs of a run restored again: the form, and the progress of training."""
    volumes = [path for role, path in inputs_in(record_of(run)).items() if role in ("tomogram", "half1", "half2")]
    camera = Camera([layer_of_file(path) for path in volumes], out, name)
    widget = camera.widget("Restore tomogram")
    with TemporaryDirectory() as folder:
        widget.controls.output.line.setText(str(Path(folder) / "restored"))
        widget.controls.settings["training.steps"].setValue(STEPS)
        widget.controls.more.setText("training.validate_every=20")
        widget.controls.run.click()
        job = widget.job
        if not wait(1200, lambda: not job.running or job.state().done >= STEPS * 0.9):
            raise SystemExit("training did not progress")
        widget.look()
        shown = camera.viewer.layers[-1]
        camera.viewer.dims.set_point(0, float(np.mean(shown.extent.world[:, 0])))
        # The picture shows no folder of the machine.
        widget.controls.output.line.setText("restored")
        widget.controls.tilts.line.setText(Path(widget.controls.tilts.line.text()).name)
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
    for part in (compare, uncertainty, explore):
        part(camera)
    camera.viewer.close()


if __name__ == "__main__":
    main()
