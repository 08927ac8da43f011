"""A figure whose texts are shown as they are: names of files and layers are no formulae."""

from __future__ import annotations

import warnings
from typing import Any

from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter, FuncFormatter


class PlainFigure(Figure):
    """A figure whose titles, labels and legends are plain text, even with $ in them. Ticks keep their powers of ten."""

    def draw(self, renderer: Any) -> None:
        """Draw the figure; matplotlib draws it before it saves or measures it."""
        for text in self._names():
            text.set_parse_math(False)
            if text.get_usetex():
                text.set_usetex(False)
        with warnings.catch_warnings():
            # Letters that the font lacks are drawn as boxes.
            warnings.filterwarnings("ignore", "Glyph ", UserWarning)
            super().draw(renderer)

    def _names(self) -> set[Text]:
        """All texts but those that matplotlib writes: the numbers at ticks, and the powers of ten beside axes."""
        axes: list[Any] = [artist for artist in self.findobj() if hasattr(artist, "get_majorticklabels")]
        named, written = set(), set()
        for axis in axes:
            # These calls create the ticks.
            labels = {*axis.get_majorticklabels(), *axis.get_minorticklabels()}
            if isinstance(axis.get_major_formatter(), FixedFormatter | FuncFormatter):
                named |= labels
            else:
                written |= labels | {axis.get_offset_text()}
        return (set(self.findobj(Text)) | named) - written
