"""Draws of the posterior at a place of a tomogram, as a part of the panel of the learned prior."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtWidgets import QVBoxLayout, QWidget

from cryovae.napari_plugin.controls import button, group, note
from cryovae.napari_plugin.layers import grey_range
from cryovae.napari_plugin.notices import reported
from cryovae.napari_plugin.posterior_here import PosteriorPatch, measured_layer, posterior_here, voxel_in_middle

MEAN, STD, SAMPLES = "posterior mean", "posterior std", "posterior samples"
WHERE = "At the middle of the view, in the tomogram that is selected, with the number of patches and the seed above."


class PosteriorPart(QWidget):  # type: ignore[misc]
    """A button, and the layers of what it draws.

    Attributes:
        button: Draws.
        state: What was drawn.
        patch: The last draws, None before the first.

    Args:
        panel: The panel of the learned prior.
    """

    def __init__(self, panel: Any) -> None:
        super().__init__()
        self.panel, self.viewer = panel, panel.host.viewer
        self.patch: PosteriorPatch | None = None
        self.button = button(
            "Posterior here",
            "Draw from the posterior of the patch in the middle of the view: mean, standard deviation and samples become layers "
            "at its place, in grey values of the tomogram",
        )
        self.state = note(WHERE)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(group("Posterior", self.button, self.state))
        self.button.clicked.connect(self.draw)

    @reported
    def draw(self, *ignored: Any) -> None:
        """Draw from the posterior of the patch in the middle of the view."""
        layer, measured = measured_layer(list(self.viewer.layers), self.viewer.layers.selection.active)
        place = voxel_in_middle(self.viewer, layer)
        translate, scale = np.array(layer.translate[-3:]), np.array(layer.scale[-3:])
        c, last = self.panel.controls, self.patch
        loaded = self.panel.loaded or (None if last is None else last.prior)
        ready = None if last is None else last.ready

        def show(patch: PosteriorPatch) -> None:
            self.show_patch(patch, tuple(translate + scale * np.array(patch.position)), tuple(scale))

        settings = (c.model, loaded, measured, ready, place, c.count.value(), c.seed.value())
        self.panel.begin("Drawing from the posterior", posterior_here, *settings, done=show)

    @reported
    def show_patch(self, patch: PosteriorPatch, corner: tuple[float, ...], scale: tuple[float, ...]) -> None:
        """Show draws as layers, from a place (z, y, x) on, with a voxel size in angstrom along each axis."""
        self.patch = patch
        limits = grey_range(patch.samples)
        self._add(SAMPLES, patch.samples, limits, corner, scale, visible=False)
        self._add(STD, patch.std, grey_range(patch.std), corner, scale, visible=False, colormap="inferno")
        self._add(MEAN, patch.mean, limits, corner, scale)
        self.state.setText(
            f"{len(patch.samples)} draws of {patch.ready.prepared.name} from voxel {patch.position} (z, y, x) on; samples and "
            "standard deviation are layers that are not shown yet"
        )

    def _add(self, name: str, density: np.ndarray, limits: tuple[float, float], corner: Any, scale: Any, **options: Any) -> None:
        """Add a layer in place of one of the same name; the selection stays."""
        layers, active = self.viewer.layers, self.viewer.layers.selection.active
        for layer in [one for one in layers if one.name == name]:
            layers.remove(layer)
        leading = density.ndim - 3
        settings: dict[str, Any] = {"colormap": "gray", "rendering": "minip", **options}
        self.viewer.add_image(
            density,
            name=name,
            scale=(1.0,) * leading + scale,
            translate=(0.0,) * leading + corner,
            units=("pixel",) * leading + ("angstrom",) * 3,
            contrast_limits=limits,
            **settings,
        )
        if active is not None and active in layers:
            layers.selection.active = active
