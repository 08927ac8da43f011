"""The learned prior in the latent space widget: draws, walks between them, and directions in which they differ."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from napari.utils import progress
from qtpy.QtCore import Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QVBoxLayout, QWidget
from superqt.utils import signals_blocked

from cryovae.napari_plugin.dock_widget import DockWidget
from cryovae.napari_plugin.latest import Latest
from cryovae.napari_plugin.notices import reported
from cryovae.napari_plugin.posterior_part import PosteriorPart
from cryovae.napari_plugin.prior_controls import WAITING, PriorControls
from cryovae.napari_plugin.prior_layers import DRAWS, MORPH, WALK, PriorLayers
from cryovae.napari_plugin.prior_model import Draws, Prior, Walk, draw, find_directions, morphed, walk
from cryovae.posterior.latent_walk import Directions


class PriorPanel(QWidget):  # type: ignore[misc]
    """A part of the widget.

    Attributes:
        controls: The controls, with the slices.
        layers: The layers in the viewer.
        posterior: The part that draws at a place of a tomogram.
        draws: The draws, None before the first.
        walked: The walk between two of them, None before it was drawn.
        directions: Those of the prior of the draws, None before they were computed.
        running: Signal of whether patches are being drawn.
    """

    running = Signal(bool)

    def __init__(self, host: DockWidget) -> None:
        super().__init__()
        self.host, self.layers = host, PriorLayers(host.viewer)
        self.draws: Draws | None = None
        self.walked: Walk | None = None
        self.directions: Directions | None = None
        self._bar: Any = None
        self._task, self._number = "", 0
        # Of the positions of a slider only the last counts.
        self.latest = Latest(self)
        self.controls = c = PriorControls()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        self.posterior = PosteriorPart(self)
        for part in (c.drawing, c.shown, c.walking, c.morphing, self.posterior):
            column.addWidget(part)
        c.draw.clicked.connect(self.draw)
        c.cancel.clicked.connect(self.cancel)
        c.temperature.valueChanged.connect(c.label_temperature)
        c.walk.clicked.connect(self.walk)
        c.way.valueChanged.connect(self.show_step)
        c.find.clicked.connect(self.find_directions)
        c.rest.clicked.connect(self._to_rest)
        c.centre.currentIndexChanged.connect(self._start_morph)
        c.number.valueChanged.connect(self._choose_draw)
        for amount in c.amounts:
            amount.valueChanged.connect(self._start_morph)
        host.listen(self._step_changed, host.viewer.dims.events.point)
        c.set_running(False)
        c.set_draws(0)

    # Work in a thread

    def begin(self, task: str, function: Callable[..., Any], *args: Any, done: Callable[[Any], None]) -> None:
        """Run a function that draws, in a thread, if none is running."""
        if self.host.worker is None:
            self._task = task
            self._set_running(True)
            self.controls.state.setText(f"{task} …")
            self._bar = progress(total=0, desc=task.lower())
            self.host.start_thread(function, *args, done=done, yielded=self._show_progress)

    def _set_running(self, running: bool) -> None:
        self.controls.set_running(running)
        self.posterior.button.setEnabled(not running)
        self.running.emit(running)

    @property
    def loaded(self) -> Prior | None:
        """The model of the draws, None before the first."""
        return None if self.draws is None else self.draws.prior

    def cancel(self, *ignored: Any) -> None:
        """Stop after the patches that are being drawn."""
        if self.host.worker is not None:
            self.host.worker.quit()

    def _show_progress(self, patches: tuple[int, int]) -> None:
        done, total = patches
        if self._bar is not None:
            self.controls.state.setText(f"{self._task}: {done} of {total}")
            # napari handles events meanwhile, and so the work may end here: nothing may follow.
            self._bar.total = total
            self._bar.update(done - self._bar.n)

    def work_ended(self) -> None:
        """Drawing has ended, with or without a result."""
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.close()
        self._set_running(False)
        self.controls.state.setText(WAITING if self.draws is None else self._summary(self.draws))

    def _summary(self, draws: Draws) -> str:
        side = draws.densities.shape[-1]
        return (
            f"{len(draws)} patches of {side} voxels from {draws.prior.name}, seed {draws.seed}, temperature {draws.temperature:g}"
        )

    # Draws

    @reported
    def draw(self, *ignored: Any) -> None:
        """Draw patches."""
        c = self.controls
        self.begin(
            "Drawing patches", draw, c.model, self.loaded, c.count.value(), c.seed.value(), c.degrees, done=self.show_draws
        )

    @reported
    def show_draws(self, draws: Draws) -> None:
        """Show draws as a layer, and one of them in the panel."""
        self.draws, self.walked, self.directions = draws, None, draws.prior.directions.get(draws.seed)
        number = min(self._number, len(draws) - 1)
        self.controls.set_draws(len(draws))
        self._show_directions()
        # A new layer moves the sliders of the viewer to its middle.
        self._show_layer(DRAWS, draws.densities)
        self._set_number(number)
        self.layers.go_to(number)
        self._show_draw()

    def _show_draw(self) -> None:
        if self.draws is not None:
            self._show_slices(self.draws.densities[self._number], f"draw {self._number} of 0 to {len(self.draws) - 1}")

    def _set_number(self, number: int) -> None:
        self._number = number
        with signals_blocked(self.controls.number):
            self.controls.number.setValue(number)

    def _choose_draw(self, number: int) -> None:
        """Morph another draw."""
        self._number = number
        self._start_morph()

    def _show_layer(self, name: str, density: np.ndarray) -> None:
        assert self.draws is not None
        self.layers.show(name, density, self.draws.limits, self.controls.voxel_size.value())

    def _show_slices(self, density: np.ndarray, caption: str) -> None:
        assert self.draws is not None
        self.controls.slices.show_density(density, self.draws.limits, caption)

    def _step_changed(self, *ignored: Any) -> None:
        """Follow the viewer's first slider."""
        number = self.layers.number(DRAWS)
        if self.draws is not None and number is not None and number != self._number and number < len(self.draws):
            self._set_number(number)
            self._show_draw()
        step = self.layers.number(WALK)
        if self.walked is not None and step is not None and step < len(self.walked.densities):
            self.controls.way.setValue(step)

    # A walk

    @reported
    def walk(self, *ignored: Any) -> None:
        """Draw the patches between two draws."""
        if self.draws is not None:
            c = self.controls
            ends = c.first.value(), c.last.value()
            self.begin("Walking", walk, self.draws, *ends, c.steps.value(), done=self.show_walk)

    @reported
    def show_walk(self, walked: Walk) -> None:
        """Show a walk as a layer, from its first step on."""
        self.walked, way = None, self.controls.way
        self._show_layer(WALK, walked.densities)
        self.walked = walked
        with signals_blocked(way):
            way.setRange(0, len(walked.densities) - 1)
            way.setValue(0)
        way.setEnabled(True)
        self.show_step(0)

    @reported
    def show_step(self, step: int) -> None:
        """Show a step of the walk."""
        if self.walked is not None:
            densities, first, last = self.walked.densities, self.walked.first, self.walked.last
            if self.layers.number(WALK) is None:
                self._show_layer(WALK, densities)
            self.layers.go_to(step)
            self._show_slices(densities[step], f"step {step} of 0 to {len(densities) - 1}, from draw {first} to draw {last}")

    # Directions

    @reported
    def find_directions(self, *ignored: Any) -> None:
        """Compute the directions of the prior of the draws, with their seed."""
        if self.draws is not None:
            self.begin("Drawing patches for directions", find_directions, self.draws, done=self._directions_known)

    def _directions_known(self, directions: Directions) -> None:
        self.directions = directions
        self._show_directions()
        self._start_morph()

    def _show_directions(self) -> None:
        self.controls.set_directions(self.directions is not None)
        self._to_rest(show=False)
        self._label_directions()

    def _label_directions(self) -> None:
        self.controls.label_directions(None if self.directions is None else self.directions.explained.tolist())

    def _to_rest(self, *ignored: Any, show: bool = True) -> None:
        for amount in self.controls.amounts:
            with signals_blocked(amount):
                amount.setValue(amount.maximum() // 2)
        if show:
            self._start_morph()

    def _start_morph(self, *ignored: Any) -> None:
        self._label_directions()
        if self.directions is not None:
            self._morph()

    @reported
    def _morph(self) -> None:
        """Show what the sliders make of a draw, or of the mean."""
        if self.draws is None or self.directions is None:
            return
        c = self.controls
        about_draw = c.centre.currentIndex() == 0
        where = f"draw {self._number}" if about_draw else "the mean of the draws"
        caption = f"{where}, moved by " + ", ".join(f"{value:+.1f}" for value in c.values()) + " std"
        compute = partial(morphed, self.draws, self.directions, self._number if about_draw else None, c.values())
        self.latest.submit("morph", compute, partial(self._show_morph, self.draws, caption))

    def _show_morph(self, draws: Draws, caption: str, density: np.ndarray) -> None:
        # Others may have been drawn meanwhile.
        if draws is self.draws:
            self._show_layer(MORPH, density)
            self._show_slices(density, caption)
