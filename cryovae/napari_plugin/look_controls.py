"""Controls of the View widget."""

from __future__ import annotations

from cryovae.napari_plugin.controls import button, check_box, choice, group, note, row, slider
from cryovae.napari_plugin.keys import KEYS

FOG, SURFACE = range(2)
STYLES = ("fog (attenuated)", "surface")
# The slider goes from the median of the voxels to the brightest in a thousand.
STEPS, LOWEST, HIGHEST, AT_FIRST = 1000, 50.0, 99.9, 600
ADVICE = "Go through the slices from the least certain one on."


class Controls:
    """The groups of controls: 3D, slices of interest, particles, picture.

    Attributes:
        rank: Number of the slice of interest that is shown, -1 before one is.
    """

    def __init__(self) -> None:
        self.rank = -1
        self.show_3d = button("Show in 3D", "The restoration in 3D with protein bright; press again to go back to slices")
        self.show_3d.setCheckable(True)
        self.beside = check_box("input beside", "Show the input next to the restoration, with one camera", True)
        self.style = choice("Fog shows all that is denser than the level; a surface is drawn about it", STYLES)
        self.level = slider(AT_FIRST, STEPS, "What is shown in 3D: to the right only the densest voxels")
        self.state = note()
        self.space = group("3D", row(self.show_3d, self.beside), ("Style", self.style), ("Level", self.level), self.state)

        self.previous = button("← less certain", f"The slice of interest before ({KEYS['previous'].keys})")
        self.next = button("more certain →", f"The next slice of interest, by falling standard deviation ({KEYS['next'].keys})")
        self.where = note(ADVICE)
        self.toggle = button("Input / mean", f"Show the input in place of the mean, and back ({KEYS['toggle'].keys})")
        self.interest = group("Slices of interest", row(self.previous, self.next), self.where, self.toggle)

        self.open = button(
            "Open particles …", "STAR of RELION, Warp or cryovae, or picks of copick, as points with the std at each"
        )
        self.picked = note()
        self.particles = group("Picked particles", self.open, self.picked)

        self.save = button("Save picture …", "A PNG of the window, 1000 pixels wide, for a talk or a README")
        self.canvas_only = check_box("canvas only", "Without the panels of the window")
        self.saved = note()
        self.picture = group("Picture", row(self.save, self.canvas_only), self.saved)

    @property
    def percentile(self) -> float:
        """The level: percent of the voxels that are not shown, finer towards the densest ones."""
        share = self.level.value() / STEPS
        return HIGHEST - (HIGHEST - LOWEST) * (1 - share) ** 2

    def say(self, text: str) -> None:
        """Say what the 3D view does."""
        self.state.setText(text)
