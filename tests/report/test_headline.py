"""One figure and one caveat in all places that show a run: terminal, report, summary of a batch, and napari."""

import json
from dataclasses import replace

import numpy as np
import pytest

from cryovae.batch.status import Status, caveats_of, figures_of, table_of
from cryovae.evaluation.assessment import Assessment
from cryovae.io.record_schema import RestorationPart
from cryovae.napari_plugin.uncertainty_calibration import calibration_note
from cryovae.report import page as page_module
from cryovae.report.contents import Contents
from cryovae.report.headline import FAR_OFF, SHARED_MODEL, Headline
from cryovae.report.page import page
from cryovae.report.score_tables import print_tables
from cryovae.tomogram import TiltGeometry
from tests.helpers.held_out import HELD_OUT

SHAPE = (12, 20, 16)


def record_of(correlation=0.42, highest=0.63, clipping=0.31, ratio=1.02, trained_on=False):
    held_out = HELD_OUT | {
        "correlation": correlation, "correlation_ceiling": highest, "rms_over_std_fitted": ratio, "trained_on": trained_on,
    }  # fmt: skip
    restoration = {"held_out": held_out, "clipping": {"correlation": clipping, "recipe": "low-pass 0.2"}}
    return {"name": "ts_01", "command": "restore", "status": "done", "restoration": restoration}


def contents_of(record):
    rng = np.random.default_rng(0)
    before, after = (rng.normal(size=SHAPE).astype(np.float32) for _ in range(2))
    return Contents(
        "ts_01",
        before,
        after,
        np.ones(SHAPE, np.float32),
        10.0,
        TiltGeometry.from_range(-60, 60),
        Assessment((0.01, 0.2)),
        record,
    )


RECORDS = {
    "good": record_of(),
    "trivial": record_of(correlation=0.13, clipping=0.16),
    "narrow": record_of(ratio=2.5),
    "wide": record_of(ratio=0.4),
    "trained on": record_of(trained_on=True),
    "no clipping": record_of(clipping=None),
}


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS.keys())
def test_all_four_places_show_the_same_figure_with_the_same_caveat(record, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(page_module, "_picture", lambda figure: "")
    record = json.loads(json.dumps(record))
    headline, contents = Headline.from_record(record), contents_of(record)
    print_tables(contents, shells=False)
    terminal, report = " ".join(capsys.readouterr().out.split()), page(contents)
    done = Status("ts_01", "done", "", 12.0, figures_of(tmp_path, record), caveats_of(record))
    summary = table_of([done])
    napari = calibration_note(record)
    for sentence in headline.sentences():
        assert sentence in napari.text
        assert sentence in terminal
        assert sentence in report
    for caveat in headline.caveats():
        assert caveat in summary
    assert headline.figure in report
    assert napari.is_off == (headline.is_far_off or headline.is_trivial)
    for number in headline.figure.split(" of "):
        assert f" {number} " in summary
    assert (headline.error_bars()[0] in summary) == headline.is_far_off


def test_worse_than_trivial_is_said_with_what_to_do():
    trivial, good = (Headline.from_record(RECORDS[name]) for name in ("trivial", "good"))
    assert trivial.is_trivial
    assert not good.is_trivial
    (caveat,) = trivial.caveats()
    assert "not to be trusted" in caveat
    for option in ("--steps", "--half1", "--mask", "--voxel-size"):
        assert option in caveat
    assert good.caveats() == []
    assert not Headline.from_record(RECORDS["no clipping"]).is_trivial


@pytest.mark.parametrize(("ratio", "word"), [(2.0, "too small"), (1.0, "about right"), (0.5, "too wide")])
def test_error_bars_are_judged(ratio, word):
    headline = Headline.from_record(record_of(ratio=ratio))
    assert word in headline.error_bars()[0]
    assert headline.is_far_off == (max(ratio, 1 / ratio) > FAR_OFF)


def test_without_held_out_data_nothing_is_claimed():
    headline = Headline.from_record({"restoration": {"held_out": None}})
    assert (headline.correlation, headline.ratio, headline.figure) == (None, None, "")
    assert "not known" in headline.prediction()[0]
    assert "not checked" in headline.error_bars()[0]
    assert headline.caveats() == []


def test_without_a_wedge_no_wedge_is_judged():
    headline = replace(Headline.from_record(RECORDS["good"]), has_wedge=False)
    assert headline.prediction() == ["The tilts leave no wedge: this tomogram is denoised only."]


def test_the_record_of_clipping_is_read_again():
    part = RestorationPart.model_validate(RECORDS["good"]["restoration"])
    assert part.clipping is not None
    assert part.clipping.correlation == 0.31


def test_halves_are_never_shown_without_their_caveat(full_halves):
    text = page(full_halves)
    assert SHARED_MODEL in text
    assert f"held-out data are predicted with {full_halves.headline.figure}" in text


@pytest.fixture
def full_halves(simulation, monkeypatch):
    """A report of a run with restored halves."""
    from cryovae.evaluation.assessment import assess

    monkeypatch.setattr(page_module, "_picture", lambda figure: "")
    halves = simulation.half1, simulation.half2
    before = (simulation.half1 + simulation.half2) / 2
    assessment = assess(before, simulation.tilts, input_density=before, halves=halves, input_halves=halves)
    return Contents("ts_01", before.numpy(), before.numpy(), None, 10.0, simulation.tilts, assessment, RECORDS["good"])
