"""The report: whole in one file, honest about what is not known, and every figure with its axes named."""

import json
import re
from dataclasses import replace

import mrcfile
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from cryovae.evaluate.report import as_plain, assess
from cryovae.report import curves, slices, words
from cryovae.report.contents import Contents, held_out, metrics_of
from cryovae.report.page import page
from cryovae.tomogram import TiltGeometry
from tests.conftest import write_mrc

FREQUENCY = (np.arange(1, 21) / 40).tolist()
CEILING = np.linspace(0.9, 0.3, 20)
HELD_OUT = {
    "frequency": FREQUENCY,
    "fsc": (CEILING * np.linspace(1.0, 0.2, 20)).tolist(),
    "ceiling": CEILING.tolist(),
    "correlation": 0.62,
    "correlation_ceiling": 0.71,
    "chi2": [1.1] * 20,
    "chi2_band": 1.08,
    "factor_two": None,
    "coverage": {"0.5": 0.49, "0.8": 0.79, "0.9": 0.88, "0.95": 0.94},
    "rms_over_std": 1.05,
    "spread_factor": [1.4] * 20,
    "bins": 12345,
    "patches": 4,
    "trained_on": False,
}
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
    given = (simulation.half1, simulation.half2)
    found = assess(after, simulation.tilts, simulation.truth, before, std, samples, halves, given)
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
    return Contents("ts_01", *plain, 10.0, simulation.tilts, found, record, METRICS)


@pytest.fixture
def no_pictures(monkeypatch):
    """Drawing takes seconds, and the words do not depend on it."""
    from cryovae.report import page as module

    monkeypatch.setattr(module, "_shown", lambda figure, caption: slices.plt.close(figure) or "" if figure else "")


def bare(full: Contents) -> Contents:
    """The same as it is without a truth, halves or anything held out."""
    assert full.before is not None
    found = assess(torch.from_numpy(full.after), full.tilts, given=torch.from_numpy(full.before))
    return replace(full, assessment=found, record={"restoration": {"held_out": None}}, metrics=[])


def test_the_page_holds_everything_and_loads_nothing(full):
    text = page(full)
    assert text.count("<img") >= 5
    assert re.findall(r'(?:src|href)\s*=\s*"(?!data:image/png;base64,)', text) == []
    assert not re.search(r"<script|<link|@import|url\(|https?://", text)
    assert "@media print" in text
    words_wanted = (
        "untouched input", "low-pass and clipping", "0.71", "FSC 0.143", "conditional on", "CRPS", "0123abc", "active units",
        "chi²", "training.steps", "0° to 30°",
    )  # fmt: skip
    for wanted in words_wanted:
        assert wanted in text, wanted


def test_what_files_are_called_is_escaped(full, no_pictures):
    text = page(replace(full, name="<script>x</script>"))
    assert "<script>" not in text
    assert "a_<b>" not in text
    assert "a_&lt;b&gt;_EVN.mrc" in text


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
    figure = getattr(slices if hasattr(slices, part) else curves, part)(full)
    shown = [axis for axis in figure.axes if axis.axison]
    assert len(shown) >= 2
    for axis in shown:
        labels = [label for label in (axis.get_xlabel(), axis.get_ylabel()) if label]
        assert labels
        assert all("(" in label or label == "training step" for label in labels), labels
    slices.plt.close(figure)


def test_input_and_restored_have_one_contrast_and_dark_stays_dark(full):
    figure = slices.orthoslices(full)
    pictures = [(axis.get_title(), axis.images[0]) for axis in figure.axes if axis.images and "," in axis.get_title()]
    grey = {picture.get_clim() for title, picture in pictures if not title.startswith("standard")}
    assert len(pictures) == 9
    assert len(grey) == 1
    assert {picture.get_cmap().name for title, picture in pictures if title.startswith("input")} == {"gray"}
    assert all(any("nm" in text.get_text() for text in axis.texts) for axis in figure.axes if "," in axis.get_title())
    slices.plt.close(figure)


def test_a_tall_volume_is_laid_on_its_side(full):
    tall = replace(full, before=full.before[:, :, :20], after=full.after[:, :, :20], std=None)
    figure = slices.orthoslices(tall)
    first = figure.axes[0]
    assert (first.get_title(), first.get_xlabel(), first.get_ylabel()) == ("input, yx", "y (nm)", "x (nm)")
    assert np.array_equal(first.images[0].get_array(), tall.before[20].T)
    slices.plt.close(figure)


def test_the_edges_of_the_wedge_are_drawn_at_the_tilts(full):
    figure = slices.spectra(replace(full, tilts=TiltGeometry.from_range(-45, 63)))
    drawn = [np.degrees(np.arctan2(line.get_ydata()[1], line.get_xdata()[1])) for line in figure.axes[0].lines]
    assert drawn == pytest.approx([-45, 63])
    slices.plt.close(figure)


def test_the_verdict_is_in_words_and_figures(full):
    said = " ".join(words.verdict(full))
    assert "as the wedge is, are foretold with correlation 0.62 of a possible 0.71" in said
    assert "with the truth" in said
    assert "Error bars are" in said


def test_the_verdict_says_when_clipping_does_as_well_and_when_the_test_was_trained_on(full, simulation):
    poor = assess(simulation.half1, simulation.tilts, simulation.truth, torch.from_numpy(full.before))
    record = {"restoration": {"held_out": HELD_OUT | {"trained_on": True, "rms_over_std": 2.0}}}
    said = " ".join(words.verdict(replace(full, assessment=poor, record=record)))
    assert "not better than an answer that costs nothing" in said
    assert "also trained on" in said
    assert "too small" in said
    assert "2.00 times" in said


def test_error_bars_of_the_right_size_on_average_with_the_wrong_coverage_are_not_called_right(full):
    def said(**figures):
        record = {"restoration": {"held_out": HELD_OUT | figures}}
        return words.verdict(replace(bare(full), record=record))[-1]

    assert "about right" in said()
    assert "hold 50 % of the values hold 86 %" in said(coverage={"0.5": 0.86, "0.9": 0.96})
    assert "too wide" in said(rms_over_std=0.6)
    assert "not checked" in said(rms_over_std=None)


def test_a_held_out_record_may_lack_any_of_its_keys(full, no_pictures):
    assert held_out({}) is None
    assert held_out({"restoration": {"held_out": None}}) is None
    for key in ("frequency", "fsc", "ceiling", "correlation", "chi2", "coverage", "rms_over_std", "spread_factor"):
        partial = {name: value for name, value in HELD_OUT.items() if name != key}
        text = page(replace(bare(full), record={"restoration": {"held_out": partial}}))
        assert "</html>" in text
    only = page(replace(bare(full), record={"restoration": {"held_out": {"correlation": 0.5}}}))
    assert "correlation 0.50" in only


def test_how_far_the_wedge_is_filled_is_the_correlation_over_its_ceiling():
    known = held_out({"restoration": {"held_out": HELD_OUT}})
    share = np.linspace(1.0, 0.2, 20)
    assert known.filled_to(10.0) == pytest.approx(10 / np.interp(-0.5, -share, FREQUENCY))
    # Where the ceiling falls to nothing, nothing is told, and the answer stops there.
    blind = held_out({"restoration": {"held_out": HELD_OUT | {"ceiling": [0.9] * 5 + [0.01] * 15, "fsc": [0.9] * 20}}})
    assert blind.filled_to(10.0) == pytest.approx(10 / FREQUENCY[4])
    assert held_out({"restoration": {"held_out": HELD_OUT | {"ceiling": [0.01] * 20}}}).filled_to(10.0) is None
    # A shell without bins is passed over.
    empty = {"fsc": [None, *HELD_OUT["fsc"][1:]], "ceiling": [None, *HELD_OUT["ceiling"][1:]]}
    assert held_out({"restoration": {"held_out": HELD_OUT | empty}}).filled_to(10.0) == pytest.approx(known.filled_to(10.0))


def test_the_ceiling_of_a_band_is_that_of_signal_and_noise():
    """SNR 3 in all shells: a correlation of sqrt(3 / 4) at best."""
    plain = {name: value for name, value in HELD_OUT.items() if name != "correlation_ceiling"}
    known = held_out({"restoration": {"held_out": plain | {"ceiling": [0.75**0.5] * 20}}})
    assert known.possible == pytest.approx(0.75**0.5)


def test_the_figures_are_json(full):
    text = json.dumps(as_plain(full.assessment, 10.0), allow_nan=False)
    found = json.loads(text)
    assert [row["name"] for row in found["against_truth"]] == ["restored", "untouched input", "low-pass and clipping"]
    assert set(found["calibration"]) == {"whole", "measured", "wedge"}
    assert found["sample_pairs"] == 1
    assert found["cones"][0]["measured"]["band"] is None


def test_the_course_of_a_training_is_that_of_the_model_that_was_given(tmp_path):
    for name in ("run", "out"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.csv").write_text(f"step,kl\n1,{len(name)}\n")
    assert metrics_of({"model": None}, tmp_path / "out/metrics.csv")[0]["kl"] == "3"
    assert metrics_of({"model": str(tmp_path / "run")}, tmp_path / "none.csv")[0]["kl"] == "3"
    (tmp_path / "run/metrics.csv").unlink()
    assert metrics_of({"model": str(tmp_path / "run")}, tmp_path / "out/metrics.csv") == []


@pytest.fixture
def restored(files, simulation, tmp_path, undrawn):
    """A folder as restore leaves it, with a second tomogram's record beside the first."""
    out = tmp_path / "out"
    out.mkdir()
    for name, prefix in (("ts_01", ""), ("ts_02", "ts_02_")):
        write_mrc(out / f"{name}_mean.mrc", simulation.truth.numpy())
        write_mrc(out / f"{name}_std.mrc", np.full(simulation.truth.shape, 0.3, dtype=np.float32))
        inputs = {role: {"path": str(files[role]), "sha256": "-"} for role in ("half1", "half2", "tilts")}
        record = {"name": name, "inputs": inputs, "restoration": {"held_out": HELD_OUT}}
        (out / f"{prefix}run.json").write_text(json.dumps(record))
    return out


def evaluate(*arguments):
    from cryovae.cli.app import app

    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def test_evaluate_needs_neither_truth_nor_tilts_where_a_record_names_them(restored, files):
    result = evaluate(restored / "ts_01_mean.mrc")
    assert result.exit_code == 0, result.output
    assert "with the truth" not in result.stdout
    assert "0.62 of a possible 0.71" in (restored / "report.html").read_text()
    second = evaluate(restored / "ts_02_mean.mrc", "--truth", files["truth"], "--json", restored / "figures.json", "--no-shells")
    assert second.exit_code == 0, second.output
    assert (restored / "ts_02_report.html").exists()
    assert all(wanted in second.stdout for wanted in ("by direction", "CRPS", "FSC 0.143"))
    figures = json.loads((restored / "figures.json").read_text())
    assert figures["truth"].endswith("truth.mrc")
    assert figures["tilts"] == [-60, 60]
    assert figures["against_truth"][0]["wedge"]["band"] == pytest.approx(1)
    assert figures["held_out"] == HELD_OUT
    assert [row["name"] for row in figures["halves"]] == ["untouched input", "low-pass and clipping"]


def test_the_report_goes_where_it_is_told(restored, tmp_path):
    where = tmp_path / "elsewhere/r.html"
    result = evaluate(restored / "ts_01_mean.mrc", "--report", where)
    assert result.exit_code == 0, result.output
    assert where.read_text().endswith("</html>\n")
    assert not (restored / "report.html").exists()


def test_a_volume_without_a_record_needs_its_tilts_and_says_so(restored, files, tmp_path):
    alone = write_mrc(tmp_path / "alone_mean.mrc", mrcfile.read(restored / "ts_01_mean.mrc"))
    refused = evaluate(alone)
    assert refused.exit_code == 2
    assert "--tilts" in refused.stderr
    other = write_mrc(tmp_path / "other.mrc", np.zeros((20, 20, 20), dtype=np.float32))
    assert "same shape" in evaluate(alone, "--tilt-range", "-60", "60", "--truth", other).stderr
    accepted = evaluate(alone, "--tilt-range", "-60", "60", "--truth", files["truth"])
    assert accepted.exit_code == 0, accepted.output
    assert "no baselines" in accepted.stderr
    assert (tmp_path / "alone_report.html").exists()
