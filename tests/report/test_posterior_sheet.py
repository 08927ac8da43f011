"""The sheet of draws of a posterior: which slices stand where, and on which scale of colours."""

import numpy as np
import pytest

from cryovae.report import posterior_sheet


@pytest.fixture
def columns(monkeypatch, tmp_path):
    """The axes of each column by its title, for eight draws of a patch that is no cube, and the arrays that were given."""
    figures = []
    monkeypatch.setattr(posterior_sheet, "save_figure", lambda path, figure, dpi: figures.append(figure))
    rng = np.random.default_rng(0)
    observed, samples = 50 * rng.standard_normal((4, 6, 8), np.float32), rng.standard_normal((8, 4, 6, 8), np.float32)
    posterior_sheet.posterior_sheet(tmp_path / "sheet.png", observed, samples.mean(0), samples, 10.0, "title")
    (figure,) = figures
    axes = [axis for axis in figure.axes if axis.images]
    width = len(axes) // 3
    return {axes[i].get_title(): axes[i::width] for i in range(width)}, observed, samples


def pixels(axes):
    return [np.asarray(axis.images[0].get_array()) for axis in axes]


def test_each_column_has_the_three_middle_slices_of_its_density(columns):
    named, observed, samples = columns
    assert list(named) == ["observed", "mean", *(f"sample {i}" for i in range(6)), "sample 0 - sample 1"]
    for title, density in (("observed", observed), ("mean", samples.mean(0)), ("sample 3", samples[3])):
        for seen, expected in zip(pixels(named[title]), (density[2], density[:, 3], density[:, :, 4]), strict=True):
            assert np.array_equal(seen, expected)
    assert np.array_equal(pixels(named["sample 0 - sample 1"])[1], samples[0][:, 3] - samples[1][:, 3])


def test_mean_and_draws_share_a_scale_and_the_difference_is_white_at_zero(columns):
    named, _, _ = columns
    limits = {title: axes[0].images[0].get_clim() for title, axes in named.items()}
    assert limits["mean"] == limits["sample 0"] == limits["sample 5"]
    assert limits["observed"][1] > 10 * limits["mean"][1]
    low, high = limits["sample 0 - sample 1"]
    assert low == -high < 0
