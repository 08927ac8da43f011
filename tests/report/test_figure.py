"""Texts of figures and pages are shown as they are: no formula, no HTML."""

import io
import re
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.text import Text

import cryovae
from cryovae.evaluation.assessment import Assessment
from cryovae.report.contents import Contents
from cryovae.report.figure import PlainFigure
from cryovae.report.pictures import contact_sheet, preview
from cryovae.tomogram import TiltGeometry

# Each is an error of matplotlib's parser of formulae.
NAMES = ["ts$_^$x", r"a$\x$b{}#%", "$$日本"]


def drawn(figure):
    figure.savefig(io.BytesIO(), bbox_inches="tight")
    return {text.get_text(): text for text in figure.findobj(Text)}


@pytest.mark.parametrize("name", NAMES)
def test_titles_labels_and_legends_of_any_name_are_drawn(name, recwarn):
    figure = PlainFigure(layout="constrained")
    axis = figure.add_subplot()
    picture = axis.imshow([[0, 1]])
    axis.plot([0, 1], [0, 1], label=name)
    axis.set(title=name, xlabel=name, ylabel=name)
    axis.text(0, 0, name)
    axis.annotate(name, (0, 0))
    axis.set_xticks([0, 1], [name, "b"])
    axis.legend(title=name)
    figure.colorbar(picture, label=name)
    figure.legend()
    figure.suptitle(name)
    drawn(figure)
    assert [str(warning.message) for warning in recwarn if "Glyph" in str(warning.message)] == []


def test_a_name_is_drawn_as_it_is_and_not_as_a_formula():
    figure = PlainFigure()
    figure.suptitle("a$^2$")
    assert not drawn(figure)["a$^2$"].get_parse_math()


def test_ticks_keep_their_powers_of_ten():
    figure = PlainFigure()
    axis = figure.add_subplot()
    axis.plot([1, 1000], [1, 1000])
    axis.set(yscale="log", title="$x$")
    axis.secondary_yaxis("right")
    texts = drawn(figure)
    powers = [text for name, text in texts.items() if "10^" in name]
    assert powers
    assert all(text.get_parse_math() for text in powers)
    assert not texts["$x$"].get_parse_math()


def test_a_users_choice_of_latex_does_not_reach_names():
    with matplotlib.rc_context({"text.usetex": True}):
        figure = PlainFigure()
        figure.suptitle("a_b#c")
    assert not drawn(figure)["a_b#c"].get_usetex()


def test_pictures_of_a_run_take_any_name(tmp_path):
    density = np.random.default_rng(0).normal(size=(12, 20, 16)).astype(np.float32)
    contents = Contents("ts$_^$x", density, density, None, 10.0, TiltGeometry.from_range(-60, 60), Assessment((0.01, 0.2)))
    preview(tmp_path / "preview.png", contents, "ts$_^$x")
    contact_sheet(tmp_path / "sheet.png", density[None], 10.0, "ts$_^$x", "$_^$")
    assert (tmp_path / "preview.png").stat().st_size > 0
    assert (tmp_path / "sheet.png").stat().st_size > 0


def test_every_figure_of_the_package_is_a_plain_one():
    for file in Path(cryovae.__file__).parent.rglob("*.py"):
        text = file.read_text()
        assert not re.search(r"(?<!Plain)\bFigure\(figsize|pyplot", text), file
