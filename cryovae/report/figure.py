"""A figure whose texts are shown as they are: names of files and layers are no formulae."""

from __future__ import annotations

import warnings
from typing import Any

from matplotlib.figure import Figure
from matplotlib.text import Text


class PlainFigure(Figure):
    """A figure that reads no formula into titles, labels and legends, whatever they contain. Ticks keep their powers of ten."""

    def draw(self, renderer: Any) -> None:
        """Draw the figure; matplotlib draws it before it saves or measures it."""
        for text in set(self.findobj(Text)) - self._ticks():
            text.set_parse_math(False)
            if text.get_usetex():
                text.set_usetex(False)
        with warnings.catch_warnings():
            # Letters that the font lacks are drawn as boxes.
            warnings.filterwarnings("ignore", "Glyph ", UserWarning)
            super().draw(renderer)

    def _ticks(self) -> set[Text]:
        """The labels of ticks, and the powers of ten beside axes, also of axes within axes."""
        axes: list[Any] = [artist for artist in self.findobj() if hasattr(artist, "get_majorticklabels")]
        ticks = {label for axis in axes for label in (*axis.get_majorticklabels(), *axis.get_minorticklabels())}
        return ticks | {axis.get_offset_text() for axis in axes}
