"""The uncertainty of a restoration: its standard deviation as colours, uncertain voxels faded out, its samples as a loop.

All is shown in temporary layers; the layers of the viewer are only hidden.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.utils.colormaps import Colormap
from qtpy.QtCore import QTimer

from cryovae.errors import InputError
from cryovae.napari_plugin.controls import offer, set_checked
from cryovae.napari_plugin.dock_widget import DockWidget
from cryovae.napari_plugin.layers import KEY, about, density_of, run_of
from cryovae.napari_plugin.notices import reported
from cryovae.napari_plugin.plots import draw_colours
from cryovae.napari_plugin.temporary_layers import TemporaryLayers, is_temporary
from cryovae.napari_plugin.uncertainty_calibration import Multiplied, calibration_note
from cryovae.napari_plugin.uncertainty_controls import STEPS, Controls
from cryovae.napari_plugin.uncertainty_model import (
    NO_SAMPLES,
    FadedDensity,
    SampleLoop,
    StdStatistics,
    colours,
    means_in,
    partner,
    std_of,
    std_statistics,
)
from cryovae.workflows.run_inputs import record_of

if TYPE_CHECKING:
    from napari.viewer import Viewer

# In the metadata of a standard deviation that was multiplied: by what.
FACTOR = "multiplied"


class UncertaintyWidget(DockWidget):
    """The dock widget.

    Attributes:
        controls: The controls.
        temporary: The layers that are shown.
        statistics: Of the mean that is shown, None before one is.
        timer: Plays the loop.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        self.temporary = TemporaryLayers(napari_viewer, self.stop)
        self.controls = c = Controls()
        self.statistics: StdStatistics | None = None
        self._mean: Any = None
        self._std: Any = None
        self._base: Any = None
        self._cover: Any = None
        self._first_step = 0
        self.timer = QTimer(self)
        self.timer.timeout.connect(self.step)
        self.stack(c.restoration, c.overlay, c.fading, c.samples)
        for box in (c.cover, c.fade, c.play):
            box.toggled.connect(self._refresh)
        c.mean.currentIndexChanged.connect(self._refresh)
        c.mean.currentIndexChanged.connect(self._show_calibration)
        c.multiply.clicked.connect(self.multiply)
        c.between.valueChanged.connect(lambda frames: self._refresh() if c.play.isChecked() else None)
        c.opacity.valueChanged.connect(self._set_colours)
        c.colours.currentIndexChanged.connect(self._set_colours)
        c.level.valueChanged.connect(self._set_level)
        c.speed.valueChanged.connect(self._set_speed)
        self.listen(self._list_means, self.viewer.layers.events.inserted)
        self.listen(self._layer_removed, self.viewer.layers.events.removed)
        self._list_means()

    # Which restoration

    def _list_means(self, event: Any = None) -> None:
        """Offer the means in the viewer, the last by default."""
        if event is None or not is_temporary(event.value):
            names = [layer.name for layer in means_in(self.viewer.layers)]
            offer(self.controls.mean, names, names[-1] if names else None)
            self._show_calibration()

    def _layer_removed(self, event: Any) -> None:
        if self.temporary.shown and (event.value in self.temporary.layers or event.value in (self._mean, self._std)):
            self.stop()
            self.statistics = None
        self._list_means(event)

    def mean(self) -> Any:
        """The layer of the selected mean. InputError if there is none."""
        name = self.controls.mean.currentText()
        means = [layer for layer in means_in(self.viewer.layers) if layer.name == name]
        if not means:
            raise InputError("no restored mean found: open the folder of a run, or restore a tomogram")
        return means[-1]

    # Its calibration

    def _show_calibration(self, *ignored: Any) -> None:
        """Say what held-out data tell of the standard deviation that is shown."""
        try:
            mean = self.mean()
            std = std_of(self.viewer.layers, mean)
            run = run_of(mean)
            record = record_of(run) if run is not None else {}
        except InputError:
            self.controls.show_calibration("", False, None)
            return
        note, factor = calibration_note(record), about(std).get(FACTOR)
        if factor is not None:
            self.controls.show_calibration(f"{std.name} is shown. As it came: {note.text}", False, None)
        else:
            self.controls.show_calibration(note.text, note.is_off, note.factor)

    @reported
    def multiply(self, *ignored: Any) -> None:
        """Add the standard deviation times its error on held-out data; it takes the place of the other, until it is removed."""
        mean = self.mean()
        std, run = std_of(self.viewer.layers, mean), run_of(mean)
        ratio = calibration_note(record_of(run)).ratio if run is not None else None
        if ratio is None or FACTOR in about(std):
            return
        info = about(std) | {FACTOR: ratio, "path": None}
        self.viewer.add_image(
            Multiplied(density_of(std), ratio),
            name=f"{std.name} × {ratio:.2f}",
            metadata=dict(std.metadata) | {KEY: info},
            scale=std.scale,
            translate=std.translate,
            units=tuple(str(unit) for unit in std.units),
            colormap=std.colormap.name,
            contrast_limits=tuple(ratio * limit for limit in std.contrast_limits),
            visible=False,
        )
        self.statistics = None
        self._refresh()

    # What is shown

    @reported
    def _refresh(self, *ignored: Any) -> None:
        """Show what is ticked."""
        c = self.controls
        self._clear()
        if not (c.cover.isChecked() or c.fade.isChecked() or c.play.isChecked()):
            return
        try:
            self._show(self.mean())
        except InputError:
            self.stop()
            raise

    def _show(self, mean: Any) -> None:
        c = self.controls
        std = std_of(self.viewer.layers, mean)
        if self.statistics is None or self._mean is not mean or self._std is not std:
            self.statistics = std_statistics(density_of(mean), density_of(std))
        self._mean, self._std = mean, std
        c.state.setText(self.statistics.summary())
        loop = self._loop(mean)
        if loop is None and not (c.cover.isChecked() or c.fade.isChecked()):
            return
        self.temporary.begin()
        density = FadedDensity(density_of(mean) if loop is None else loop, density_of(std), self.statistics.background)
        name = mean.name if loop is None else f"samples of {mean.name}"
        limits = tuple(mean.contrast_limits)
        self._base = self.temporary.add(
            density, mean, f"Uncertainty: {name}", colormap=mean.colormap.name, contrast_limits=limits
        )
        if c.cover.isChecked():
            self._cover = self.temporary.add(
                density_of(std), std, f"Uncertainty: {std.name}", contrast_limits=self.statistics.shown
            )
            self._set_colours()
        self._set_level()
        if loop is not None:
            self._first_step = self.viewer.dims.current_step[0] if self.viewer.dims.ndim > 3 else 0
            self._set_speed()

    def _loop(self, mean: Any) -> SampleLoop | None:
        """The loop of the samples, if it is to be played and there are samples."""
        c = self.controls
        c.missing.setText("")
        if not c.play.isChecked():
            return None
        samples = partner(self.viewer.layers, mean, "samples")
        if samples is None or density_of(samples).shape[0] < 2:
            c.missing.setText(NO_SAMPLES)
            set_checked(c.play, False)
            return None
        return SampleLoop(density_of(samples), density_of(mean), c.between.value())

    def _set_colours(self, *ignored: Any) -> None:
        if self._cover is not None and self.statistics is not None:
            name, opacity = self.controls.colours.currentText(), self.controls.opacity.value() / 100
            self._cover.colormap = Colormap(colours(name), name=f"cryovae {name}")
            self._cover.opacity = opacity
            draw_colours(self.controls.legend, colours(name), self.statistics, opacity)

    def _set_level(self, *ignored: Any) -> None:
        """Fade the mean by the slider."""
        if self._base is None or self.statistics is None:
            return
        level, text = float("inf"), ""
        if self.controls.fade.isChecked():
            level = self.statistics.level_keeping(self.controls.level.value() / STEPS)
            text = self.statistics.at(level)
        self.controls.kept.setText(text)
        if level != self._base.data.level:
            self._base.data.level = level
            self._base.refresh(thumbnail=False, extent=False)

    # The loop

    @property
    def _looping(self) -> bool:
        return self._base is not None and self._base.data.ndim == 4

    def _set_speed(self, *ignored: Any) -> None:
        """Play at the speed of the controls, if samples are shown."""
        speed = self.controls.speed.value()
        if self._looping and speed > 0:
            self.timer.start(max(round(1000 / speed), 1))
        else:
            self.timer.stop()

    def step(self) -> None:
        """Show the next frame."""
        if self._looping:
            frame = self.viewer.dims.current_step[0] + 1
            self.viewer.dims.set_current_step(0, frame % self._base.data.shape[0])

    # The end

    def _clear(self) -> None:
        looping = self._looping
        self.timer.stop()
        self._base = self._cover = None
        self.controls.legend.hide()
        self.controls.kept.setText("")
        self.temporary.clear()
        if looping and self.viewer.dims.ndim > 3:
            self.viewer.dims.set_current_step(0, self._first_step)

    def stop(self) -> None:
        """Remove the temporary layers and untick all boxes."""
        self._clear()
        self.controls.uncheck()

    def leave(self) -> None:
        """Restore the viewer."""
        self.stop()
