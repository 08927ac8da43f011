"""Controls of the latent space widget."""

from __future__ import annotations

from pathlib import Path

from superqt.utils import signals_blocked

from cryovae.napari_plugin.controls import button, check_box, choice, group, note, offer, row, slider, spin_box
from cryovae.napari_plugin.latent_canvas import PlaneCanvas, SlicesView
from cryovae.posterior.latent_map import MOST

# Latents on the map, and the finest of their levels, 0 at stride 1.
LEVELS = {"automatic": None, "stride 8 and coarser": 3, "stride 4 and coarser": 2, "stride 2 and coarser": 1, "all, stride 1": 0}
# Whose latent space is explored.
SOURCES = ("this run", "base prior, or a file of one")
NO_GROUP = "No group: press Lasso, and draw about points."
WAITING = "Choose a run of the variational model and press Encode."


class Controls:
    """The groups of controls: model, run, map, decoded patch, drag, draw and walk."""

    def __init__(self) -> None:
        self.source = choice(
            "Whose latent space: that of the model of a run with the patches of its tomogram, or that of a generative model of "
            "patches, which needs no run",
            SOURCES,
        )
        self.model = group("Model", self.source)

        self.run = choice("Folder of a run of cryovae restore with its model; runs of layers in the viewer are listed")
        self.run.setEditable(True)
        self.browse = button("…", "Choose the folder of a run", 30)
        self.levels = choice(
            "Latents that span the plane, by their stride in voxels; automatic: from the coarsest to the level at which "
            "they hold a quarter of the variance of what is decoded",
            tuple(LEVELS),
        )
        self.most = spin_box(MOST, 3, 100_000, "Patches to encode, at most; a larger tomogram is sampled evenly")
        self.encode = button("Encode", "Encode the patches; about a quarter of a second each without a GPU")
        self.cancel = button("Cancel", "Stop encoding")
        self.state = note(WAITING)
        self.encoding = group(
            "Run", row(self.run, self.browse), row(self.levels, self.most), row(self.encode, self.cancel), self.state
        )

        self._build_plane()
        self._build_patch()
        self.of_run = (self.encoding, self.plane, self.decoded, self.dragging, self.drawing, self.walking)

    def _build_plane(self) -> None:
        self.canvas, self.slices = PlaneCanvas(), SlicesView()
        self.across = choice("Principal axis that is drawn from left to right, with the variance of the codes that it explains")
        self.up = choice("Principal axis that is drawn from below to above")
        self.lasso = button("Lasso", "Draw about points with the mouse: a group of patches; press again to click and drag")
        self.lasso.setCheckable(True)
        self.export = button("Export STAR …", "Write the middles of the patches of the group as a table of positions")
        self.members = note(NO_GROUP)
        self.plane = group("Plane", row(self.across, self.up), self.canvas, row(self.lasso, self.export), self.members)
        self.decoded = group("Decoded", self.slices)

    def _build_patch(self) -> None:

        self.centre = choice(
            "What is kept while the cursor moves in the plane: the selected patch with its finer latents, or the mean of all "
            "patches with the prior's mean of the finer latents",
            ("about the selected patch", "about the mean of all patches"),
        )
        self.pick = check_box(
            "pick in the viewer", "A click in the viewer, in 2D, selects the patch there and marks its point", True
        )
        self.in_viewer = check_box("show as layer", "Show the decoded patch in the viewer too, at the selected patch; also in 3D")
        self.dragging = group("Drag", self.centre, row(self.pick, self.in_viewer))

        self.prior = button(
            "From the prior", "Draw a patch from the model's prior; with two encoders it was not trained to match the patches"
        )
        self.like = button("Like the patches", "Draw a patch from the Gaussian of the codes of all patches on the map")
        tip = "Standard deviation of the draws, no unit; 1 is the distribution itself"
        self.temperature = spin_box(1.0, 0, 5, tip, prefix="T ", step=0.1)
        self.seed = spin_box(
            0, 0, 1_000_000, "Random seed of the next draw; the same seed gives the same patch. Each draw adds 1", prefix="seed "
        )
        self.drawing = group("Draw", row(self.prior, self.like), row(self.temperature, self.seed))

        self.start = button("From", "Start the walk at the selected patch")
        self.stop = button("To", "End the walk at the selected patch")
        self.way = slider(0, 100, "Percent of the way between the two patches, along the sphere of their latents")
        self.ends = note("no ends")
        self.ends.setToolTip("First voxels (z, y, x) of the two patches")
        self.walking = group("Walk", row(self.start, self.stop, self.way), self.ends)

    @property
    def finest(self) -> int | None:
        """The finest level on the map, None for automatic."""
        return LEVELS[self.levels.currentText()]

    @property
    def is_run(self) -> bool:
        """Whether the latent space of a run is explored."""
        return bool(self.source.currentIndex() == 0)

    @property
    def about_selected(self) -> bool:
        """Whether the cursor moves about the selected patch."""
        return bool(self.centre.currentIndex() == 0)

    def offer_runs(self, runs: list[Path]) -> None:
        """List runs; the current text stays if there is one."""
        current = self.run.currentText()
        names = list(dict.fromkeys(map(str, runs)))
        offer(self.run, names, current or next(iter(names), None))

    def set_running(self, running: bool) -> None:
        """Allow to cancel while patches are encoded, else to encode."""
        self.encode.setEnabled(not running)
        self.source.setEnabled(not running)
        self.cancel.setEnabled(running)

    def set_ready(self, ready: bool) -> None:
        """Allow what needs a map."""
        for box in (self.dragging, self.drawing, self.walking, self.lasso, self.export, self.across, self.up):
            box.setEnabled(ready)

    def offer_axes(self, names: list[str], shown: tuple[int, int]) -> None:
        """List the principal axes, and select those that are shown."""
        for box, index in zip((self.across, self.up), shown, strict=True):
            with signals_blocked(box):
                box.clear()
                box.addItems(names)
                box.setCurrentIndex(index)

    def show_ends(self, ends: dict[str, tuple[int, int, int]]) -> None:
        """Name the ends of the walk by their first voxels; the slider works if there are both."""
        self.ends.setText(" → ".join(str(ends[name]) if name in ends else "?" for name in ("from", "to")))
        self.way.setEnabled(len(ends) == 2)
