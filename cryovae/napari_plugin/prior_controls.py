"""Controls of the learned prior in the latent space widget."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtWidgets import QFileDialog, QWidget
from superqt.utils import signals_blocked

from cryovae.generator_file import FILE
from cryovae.napari_plugin.controls import PathField, button, choice, group, note, plain_label, row, slider, spin_box
from cryovae.napari_plugin.latent_canvas import SlicesView
from cryovae.napari_plugin.prior_model import DIRECTION_DRAWS, DIRECTIONS

WAITING = "Press Draw. About a second for each patch without a GPU."
# Steps of a slider for a temperature of 1, and for a standard deviation; the largest amount of a direction.
PER_UNIT, PER_STD, FARTHEST = 100, 10, 3
# Angstrom, in the middle of the voxel sizes of the scenes that the base was trained on.
VOXEL_SIZE = 10.0
# Pixels of the caption of a slider.
CAPTION = 130


def _dialogue(parent: QWidget) -> str:
    return str(
        QFileDialog.getOpenFileName(parent, "Generative model", "", f"Model of cryovae pretrain ({FILE} *.safetensors)")[0]
    )


class PriorControls:
    """The groups of controls: model and draws, the density that is shown, walk, and morph."""

    def __init__(self) -> None:
        self.path = PathField(
            f"The generative model, a file or folder of cryovae pretrain; empty for the base that cryovae brings ({FILE})",
            "the base prior of the package",
            _dialogue,
        )
        self.count = spin_box(8, 1, 256, "Patches to draw", suffix=" patches")
        self.seed = spin_box(0, 0, 1_000_000, "Random seed; the same seed gives the same patches", prefix="seed ")
        self.voxel_size = spin_box(
            VOXEL_SIZE,
            0.1,
            1000,
            "Voxel size at which patches are shown, in angstrom. The base is trained on scenes of 6 to 16 angstrom a voxel, "
            "and its input does not say which",
            suffix=" Å",
        )
        self.temperature = slider(
            PER_UNIT,
            3 * PER_UNIT // 2,
            "Standard deviation of the noise that the flow begins with, no unit; 1 is the prior itself, less gives patches "
            "nearer to the typical one",
        )
        self.degree = plain_label()
        self.draw = button("Draw", "Draw patches from the prior, as a layer (patches, z, y, x)")
        self.cancel = button("Cancel", "Stop drawing")
        self.state = note(WAITING)
        self.drawing = group(
            "Prior",
            self.path,
            row(self.count, self.seed),
            row(plain_label("voxel size"), self.voxel_size),
            row(self.degree, self.temperature),
            row(self.draw, self.cancel),
            self.state,
        )

        self.slices = SlicesView()
        self.shown = group("Shown", self.slices)

        self._add_walk()
        self._add_morph()
        self.label_temperature()
        self.label_directions(None)

    def _add_walk(self) -> None:
        tip = "Number of the draw at which the walk {}, as the first slider of the viewer counts"
        self.first = spin_box(0, 0, 0, tip.format("begins"), prefix="from ")
        self.last = spin_box(0, 0, 0, tip.format("ends"), prefix="to ")
        self.steps = spin_box(9, 3, 101, "Patches on the way, both ends included", suffix=" steps")
        self.walk = button(
            "Walk", "Draw the patches between two draws: their noise is moved along the sphere, and the flow draws"
        )
        self.way = slider(0, 1, "Step of the walk that is shown")
        self.walking = group("Walk", row(self.first, self.last), row(self.steps, self.walk), self.way)

    def _add_morph(self) -> None:
        self.find = button(
            "Find directions",
            f"Draw {DIRECTION_DRAWS} patches with this seed, find the {DIRECTIONS} directions in which their latents differ most",
        )
        self.centre = choice("From where the sliders move", ("from a draw", "from the mean of the draws"))
        self.number = spin_box(0, 0, 0, "Number of the draw, as the first slider of the viewer counts", prefix="draw ")
        self.rest = button("To 0", "Bring the sliders back to 0")
        tip = "Standard deviations of the draws along the direction, -3 to 3; decoded at once, without the flow"
        self.amounts = [slider(FARTHEST * PER_STD, 2 * FARTHEST * PER_STD, tip) for _ in range(DIRECTIONS)]
        self.captions = [plain_label() for _ in range(DIRECTIONS)]
        self.morphing = group(
            "Morph",
            row(self.find, self.rest),
            row(self.centre, self.number),
            *(row(caption, amount) for caption, amount in zip(self.captions, self.amounts, strict=True)),
        )
        for caption in (self.degree, *self.captions):
            caption.setFixedWidth(CAPTION)

    @property
    def model(self) -> Path | None:
        """The path of the model, None for the base."""
        return self.path.path

    @property
    def degrees(self) -> float:
        """The temperature."""
        return float(self.temperature.value() / PER_UNIT)

    def label_temperature(self) -> None:
        """Write the temperature beside its slider."""
        self.degree.setText(f"temperature {self.degrees:.2f}")

    def values(self) -> tuple[float, ...]:
        """Standard deviations along each direction."""
        return tuple(amount.value() / PER_STD - FARTHEST for amount in self.amounts)

    def label_directions(self, explained: list[float] | None) -> None:
        """Write beside each slider where it is, and the share of the variance along it; None if it is not known."""
        for number, (caption, value) in enumerate(zip(self.captions, self.values(), strict=True)):
            share = "" if explained is None else f" ({100 * explained[number]:.1f} %)"
            caption.setText(f"{number + 1}: {value:+.1f} std{share}")
            caption.setToolTip("Standard deviations from the centre; share of the variance of the latents along the direction")

    def set_running(self, running: bool) -> None:
        """Allow to cancel while patches are drawn, else to draw."""
        for control in (self.draw, self.walk, self.find):
            control.setEnabled(not running)
        self.cancel.setEnabled(running)

    def set_draws(self, count: int) -> None:
        """Allow what needs draws, if there are any, and walks between the first and the last of them."""
        for box in (self.walking, self.morphing):
            box.setEnabled(count > 0)
        for end in (self.first, self.last, self.number):
            with signals_blocked(end):
                end.setMaximum(max(count - 1, 0))
        if self.first.value() == self.last.value():
            self.first.setValue(0)
            self.last.setValue(count - 1)
        self.way.setEnabled(False)
        self.set_directions(False)

    def set_directions(self, known: bool) -> None:
        """Allow to morph once the directions are known."""
        for control in (self.rest, self.centre, self.number, *self.amounts):
            control.setEnabled(known)
