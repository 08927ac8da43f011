"""The report: complete in one file, clear about what is not known, and every figure with its axes named."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from cryovae.evaluation.assessment import as_plain, assess
from cryovae.evaluation.held_out import HeldOut
from cryovae.report import curves, sentences, slices
from cryovae.report.contents import Contents
from cryovae.report.page import page
from cryovae.tomogram import TiltGeometry
from tests.helpers.held_out import HELD_OUT

METRICS = [
    {"step": "10", "log_likelihood": "-2.0", "completion": "-2.1", "kl": "", "kl_1": "", "kl_0": "", "val_gain": ""},
    {"step": "20", "log_likelihood": "-1.8", "completion": "-1.9", "kl": "0.3", "kl_1": "0.1", "kl_0": "0.2", "val_gain": "0.1"},
    {"step": "30", "log_likelihood": "-1.7", "completion": "-1.8", "kl": "0.2", "kl_1": "0.1", "kl_0": "0.1", "val_gain": "0.3"},
]


@pytest.fixture(scope="module")
def full(simulation) -> Contents:
    """A report with a truth, halves, samples, a held-out record and the course of a training."""
    before = (simulation.half1 + simulation.half2) / 2
    noise = torch.randn(2, *before.shape, generator=torch.Generator().manual_seed(0))
    after, std = simulation.truth + 0.5 * noise[0], torch.full(before.shape, 0.5)
    samples = [after + 0.5 * noise[1], after - 0.5 * noise[1]]
    halves = (simulation.truth + 0.3 * noise[0], simulation.truth + 0.3 * noise[1])
    input_halves = (simulation.half1, simulation.half2)
    assessment = assess(after, simulation.tilts, simulation.truth, before, std, samples, halves, input_halves)
    record = {
        "name": "ts_01",
        "restoration": {"held_out": HELD_OUT, "seconds": 12.5, "figures": {"wedge_energy_ratio": 0.4}},
        "training": {"steps": 30, "seconds": 99.0, "active_units": {"0": 3, "1": 2}},
        "inputs": {"half1": {"path": "a_<b>_EVN.mrc", "sha256": "0123abc"}},
        "versions": {"cryovae": "0.1.0"},
        "config": {"training": {"steps": 30}},
        "arguments": ["restore", "--half1", "a_<b>_EVN.mrc"],
    }
    plain = [volume.numpy() for volume in (before, after, std)]
    return Contents("ts_01", *plain, 10.0, simulation.tilts, assessment, record, METRICS)


@pytest.fixture
def no_pictures(monkeypatch):
    """Drawing takes seconds, and the text does not depend on it."""
    from cryovae.report import page as module

    monkeypatch.setattr(module, "_picture", lambda figure: "")


class Texts(HTMLParser):
    """Collects the texts of a page as a browser shows them."""

    def __init__(self):
        super().__init__()
        self.texts = []

    def handle_data(self, data):
        self.texts.append(data)


def bare(full: Contents) -> Contents:
    """The same as it is without a truth, halves or anything held out."""
    assert full.before is not None
    assessment = assess(torch.from_numpy(full.after), full.tilts, input_density=torch.from_numpy(full.before))
    return replace(full, assessment=assessment, record={"restoration": {"held_out": None}}, metrics=[])


def test_the_page_holds_everything_and_loads_nothing(full):
    text = page(full)
    assert text.count("<img") >= 5
    assert re.findall(r'(?:src|href)\s*=\s*"(?!data:image/png;base64,)', text) == []
    assert not re.search(r"<script|<link|@import|url\(|https?://", text)
    assert "@media print" in text
    expected = (
        "untouched input", "low-pass and clipping", "0.71", "FSC 0.143", "conditional on", "CRPS", "0123abc", "active units",
        "chi²", "training.steps", "0° to 30°",
    )  # fmt: skip
    for wanted in expected:
        assert wanted in text, wanted


def test_names_of_tomograms_files_and_settings_are_escaped(full, no_pictures):
    name = """<script>x</script> & "y" 'z'"""
    text = page(replace(full, name=name, record=full.record | {"config": {"<i>": {"k": "<b>"}}}))
    assert not re.search("<script|<i>|<b>[^0-9≤n]", text)
    assert "&lt;script&gt;x&lt;/script&gt; &amp; &#34;y&#34; &#39;z&#39;" in text
    assert "a_<b>" not in text
    assert "a_&lt;b&gt;_EVN.mrc" in text
    parser = Texts()
    parser.feed(text)
    assert f"{name}, restored" in parser.texts
    assert "cryovae restore --half1 a_<b>_EVN.mrc" in parser.texts


def test_without_truth_or_held_out_data_the_page_says_what_is_not_known(full, no_pictures):
    text = page(bare(full))
    assert "not available" in text
    assert "is not known" in text
    assert "low-pass and clipping" in text
    assert "untouched input" in text
    assert "not checked" in text
    assert "nan" not in re.sub(r"base64,[^\"]*", "", text)


@pytest.mark.parametrize("part", ["orthoslices", "spectra", "correlations", "calibrations", "training"])
def test_every_axis_has_a_name_and_a_unit(full, part):
    figure = getattr(slices if hasattr(slices, part) else curves, part)(full.metrics if part == "training" else full)
    shown = [axis for axis in figure.axes if axis.axison]
    assert len(shown) >= 2
    for axis in shown:
        labels = [label for label in (axis.get_xlabel(), axis.get_ylabel()) if label]
        assert labels
        assert all("(" in label or label == "training step" for label in labels), labels


def test_input_and_restored_have_one_contrast_and_dark_stays_dark(full):
    figure = slices.orthoslices(full)
    pictures = [(axis.get_title(), axis.images[0]) for axis in figure.axes if axis.images and "," in axis.get_title()]
    grey = {picture.get_clim() for title, picture in pictures if not title.startswith("standard")}
    assert len(pictures) == 9
    assert len(grey) == 1
    assert {picture.get_cmap().name for title, picture in pictures if title.startswith("input")} == {"gray"}
    assert all(any("nm" in text.get_text() for text in axis.texts) for axis in figure.axes if "," in axis.get_title())


def test_a_tall_volume_is_laid_on_its_side(full):
    tall = replace(full, before=full.before[:, :, :20], after=full.after[:, :, :20], std=None)
    figure = slices.orthoslices(tall)
    first = figure.axes[0]
    assert (first.get_title(), first.get_xlabel(), first.get_ylabel()) == ("input, yx", "y (nm)", "x (nm)")
    assert np.array_equal(first.images[0].get_array(), tall.before[20].T)


def test_the_edges_of_the_wedge_are_drawn_at_the_tilts(full):
    figure = slices.spectra(replace(full, tilts=TiltGeometry.from_range(-45, 63)))
    drawn = [np.degrees(np.arctan2(line.get_ydata()[1], line.get_xdata()[1])) for line in figure.axes[0].lines]
    assert drawn == pytest.approx([-45, 63])


def test_the_verdict_is_in_words_and_figures(full):
    said = " ".join(sentences.verdict(full))
    assert "as the wedge is, are predicted with correlation 0.62 of at most 0.71" in said
    assert "with the truth" in said
    assert "Error bars are" in said


def test_the_verdict_says_when_clipping_is_as_good_or_data_were_trained_on(full, simulation):
    poor = assess(simulation.half1, simulation.tilts, simulation.truth, torch.from_numpy(full.before))
    record = {"restoration": {"held_out": HELD_OUT | {"trained_on": True, "rms_over_std_fitted": 2.0}}}
    said = " ".join(sentences.verdict(replace(full, assessment=poor, record=record)))
    assert "not better than a trivial baseline" in said
    assert "also used in training" in said
    assert "too small" in said
    assert "2.00 times" in said


def test_error_bars_with_the_wrong_coverage_are_not_called_right(full):
    def said(**figures):
        record = {"restoration": {"held_out": HELD_OUT | figures}}
        return sentences.verdict(replace(bare(full), record=record))[-1]

    assert "about right" in said()
    assert "hold 50 % of the values hold 86 %" in said(coverage={"0.5": 0.86, "0.9": 0.96})
    assert "too wide" in said(rms_over_std_fitted=0.6)
    assert "not checked" in said(rms_over_std_fitted=None)


def test_a_held_out_record_may_lack_any_of_its_keys(full, no_pictures):
    assert HeldOut.from_record({}) is None
    assert HeldOut.from_record({"restoration": {"held_out": None}}) is None
    for key in ("frequency", "fsc", "ceiling", "correlation", "chi2", "coverage", "rms_over_std_fitted", "spread_factor"):
        incomplete = {name: value for name, value in HELD_OUT.items() if name != key}
        text = page(replace(bare(full), record={"restoration": {"held_out": incomplete}}))
        assert "</html>" in text
    only = page(replace(bare(full), record={"restoration": {"held_out": {"correlation": 0.5}}}))
    assert "correlation 0.50" in only


def test_the_statistics_are_json(full):
    text = json.dumps(as_plain(full.assessment, 10.0), allow_nan=False)
    statistics = json.loads(text)
    assert [row["name"] for row in statistics["against_truth"]] == ["restored", "untouched input", "low-pass and clipping"]
    assert set(statistics["calibration"]) == {"volume", "measured", "wedge"}
    assert statistics["sample_pairs"] == 1
    assert statistics["cones"][0]["measured"]["band"] is None
