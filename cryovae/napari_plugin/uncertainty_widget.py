"""How sure a restoration is: its standard deviation as colours, what is uncertain faded out, its samples as a loop.

All is shown in layers of the widget's own; the layers of the viewer are only hidden.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.utils.colormaps import Colormap
from qtpy.QtCore import QTimer

from cryovae.errors import InputError
from cryovae.napari_plugin.docked import Docked
from cryovae.napari_plugin.notices import reported
from cryovae.napari_plugin.stage import Stage, is_prop
from cryovae.napari_plugin.uncertainty_controls import STEPS, Controls
from cryovae.napari_plugin.uncertainty_model import (
    NO_SAMPLES,
    Faded,
    Loop,
    VarianceCalibration,
    colours,
    means_in,
    partner,
    spread_of,
    std_of,
)

if TYPE_CHECKING:
    from napari.viewer import Viewer


class UncertaintyWidget(Docked):
    """The dock widget. spread: of the mean that is shown, None before one is."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.stage = Stage(napari_viewer, self.stop)
        self.controls = Controls()
        self.spread: VarianceCalibration | None = None
        self._of: Any = None
        self._base: Any = None
        self._cover: Any = None
        self._step_before = 0
        self.timer = QTimer(self)
        self.timer.timeout.connect(self.step)
        c = self.controls
        self.stack(c.choosing, c.covering, c.fading, c.playing)
        self._connect()
        self._list()

    def _connect(self) -> None:
        c = self.controls
        for box in (c.cover, c.fade, c.play):
            box.toggled.connect(self._again)
        c.mean.currentIndexChanged.connect(self._again)
        c.between.valueChanged.connect(self._again_playing)
        c.opacity.valueChanged.connect(self._colour)
        c.colours.currentIndexChanged.connect(self._colour)
        c.level.valueChanged.connect(self._fade)
        c.speed.valueChanged.connect(self._pace)
        self.viewer.layers.events.inserted.connect(self._list)
        self.viewer.layers.events.removed.connect(self._removed)

    # Which restoration

    def _list(self, event: Any = None) -> None:
        """Offer the means that are in the viewer."""
        if event is None or not is_prop(event.value):
            self.controls.offer([layer.name for layer in means_in(self.viewer.layers)])

    def _removed(self, event: Any) -> None:
        if self.stage.set and (event.value in self.stage.props or event.value is self._of):
            self.stop()
        self._list(event)

    def mean(self) -> Any:
        """The layer of the mean chosen. InputError if there is none."""
        chosen = self.controls.mean.currentText()
        found = [layer for layer in means_in(self.viewer.layers) if layer.name == chosen]
        if not found:
            raise InputError("no restored mean found: open the folder of a run, or restore a tomogram")
        return found[-1]

    # What is shown

    @reported
    def _again(self, *ignored: Any) -> None:
        """Show what the ticks say."""
        c = self.controls
        self._clear()
        if not (c.cover.isChecked() or c.fade.isChecked() or c.play.isChecked()):
            return
        try:
            self._begin(self.mean())
        except InputError:
            self.stop()
            raise

    def _again_playing(self, *ignored: Any) -> None:
        if self.controls.play.isChecked():
            self._again()

    def _begin(self, mean: Any) -> None:
        c = self.controls
        std = std_of(self.viewer.layers, mean)
        if self.spread is None or self._of is not mean:
            self.spread = spread_of(mean.data, std.data)
        self._of = mean
        c.state.setText(self.spread.summary())
        density, frames = self._density(mean)
        if density is None:
            c.play.blockSignals(True)
            c.play.setChecked(False)
            c.play.blockSignals(False)
            if not (c.cover.isChecked() or c.fade.isChecked()):
                return
            density = mean.data
        self.stage.enter()
        limits = tuple(mean.contrast_limits)
        shown = Faded(density, std.data, self.spread.background)
        name = f"samples of {mean.name}" if frames else mean.name
        self._base = self.stage.add(shown, mean, f"Doubt: {name}", colormap=mean.colormap.name, contrast_limits=limits)
        if c.cover.isChecked():
            self._cover = self.stage.add(std.data, std, f"Doubt: {std.name}", contrast_limits=self.spread.shown)
            self._colour()
        c.legend.setVisible(c.cover.isChecked())
        self._fade()
        if frames:
            self._step_before = self.viewer.dims.current_step[0] if self.viewer.dims.ndim > 3 else 0
            self._pace()

    def _density(self, mean: Any) -> tuple[Any, int]:
        """What is shown below the colours, and its frames; None where samples are asked for and there are none."""
        c = self.controls
        c.lack.setText("")
        if not c.play.isChecked():
            return mean.data, 0
        samples = partner(self.viewer.layers, mean, "samples")
        if samples is None or samples.data.shape[0] < 2:
            c.lack.setText(NO_SAMPLES)
            return None, 0
        loop = Loop(samples.data, mean.data, c.between.value())
        return loop, loop.shape[0]

    def _colour(self, *ignored: Any) -> None:
        c = self.controls
        if self._cover is None or self.spread is None:
            return
        rgba, opacity = colours(c.colours.currentText()), c.opacity.value() / 100
        self._cover.colormap = Colormap(rgba, name=f"cryovae {c.colours.currentText()}")
        self._cover.opacity = opacity
        c.legend.show_colours(rgba, self.spread, opacity)

    def level(self) -> float:
        """The level of the slider, in grey levels."""
        assert self.spread is not None
        return self.spread.level_keeping(self.controls.level.value() / STEPS)

    def _fade(self, *ignored: Any) -> None:
        """Fade the mean as the slider says."""
        if self._base is None or self.spread is None:
            return
        wanted = self.controls.fade.isChecked()
        self.controls.kept.setText(self.spread.at(self.level()) if wanted else "")
        level = self.level() if wanted else float("inf")
        if level != self._base.data.level:
            self._base.data.level = level
            self._base.refresh(thumbnail=False, extent=False)

    # The loop

    def _pace(self, *ignored: Any) -> None:
        """Run at the speed of the controls, if samples are shown."""
        speed = self.controls.speed.value()
        if self._base is not None and self._base.data.ndim == 4 and speed > 0:
            self.timer.start(max(round(1000 / speed), 1))
        else:
            self.timer.stop()

    def step(self) -> None:
        """Show the next frame."""
        if self._base is not None and self._base.data.ndim == 4:
            frame = self.viewer.dims.current_step[0] + 1
            self.viewer.dims.set_current_step(0, frame % self._base.data.shape[0])

    # The end

    def _clear(self) -> None:
        looped = self._base is not None and self._base.data.ndim == 4
        self.timer.stop()
        self._base = self._cover = None
        self.controls.legend.hide()
        self.controls.kept.setText("")
        self.stage.clear()
        if looped and self.viewer.dims.ndim > 3:
            self.viewer.dims.set_current_step(0, self._step_before)

    def stop(self) -> None:
        """Show nothing any more."""
        self._clear()
        self.controls.release()

    def leave(self) -> None:
        """Leave the viewer as it was found."""
        self.stop()
        self.viewer.layers.events.inserted.disconnect(self._list)
        self.viewer.layers.events.removed.disconnect(self._removed)
