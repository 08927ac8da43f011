"""The benchmark's parts: every row can be made, nulls hold nothing, figures are those of evaluate, time is shared fairly."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch

from cryovae import fourier
from cryovae.config import override, preset
from cryovae.data.prepare import prepare
from cryovae.evaluation.fsc import regions, score
from cryovae.models.ladder import Ladder
from cryovae.objectives.deterministic import NAMES
from cryovae.physics.noise import estimate_noise
from cryovae.physics.rotation import symmetry_rotations
from cryovae.physics.wedge import volume_mask
from tests.conftest import write_mrc

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "pipelines" / "benchmark"))

import cost
import data
import error_bars
import figure
import rows
import run
import scoring
import table


@pytest.fixture
def folder(tmp_path: Path, simulation) -> Path:
    for name, density in (("half1", simulation.half1), ("half2", simulation.half2), ("truth", simulation.truth)):
        write_mrc(tmp_path / f"made_{name}.mrc", density.numpy())
    (tmp_path / "made.tlt").write_text("\n".join(f"{a:.1f}" for a in simulation.tilts.angles) + "\n")
    return tmp_path


@pytest.mark.parametrize("row", list(rows.ROWS))
def test_every_row_can_be_made(row: str) -> None:
    made = rows.ROWS[row]
    config = override(preset("quick"), dict(made.settings))
    assert made.kind in ("vae", "unet", "fixed")
    if made.kind == "unet":
        assert made.objective in NAMES
    Ladder(config.ladder)


def test_the_control_rotates_about_the_beam_and_in_no_other_way(tomogram) -> None:
    config = override(preset("quick"), dict(rows.ROWS["rotations_beam"].settings))
    assert config.masking.rotated_fraction == 0
    prepared = prepare(tomogram, 16, masking=config.masking)
    beam = torch.tensor([1.0, 0.0, 0.0])
    assert all(torch.equal(g.matrix @ beam, beam) for g in prepared.orientations.rotations)
    # Within 30 degrees of the beam, less the soft edge of a small patch, no such rotation measures anything.
    k, radius = fourier.frequencies((16, 16, 16)), fourier.radius((16, 16, 16))
    cone = (k[0].abs() > 0.95 * radius) & (radius > 0.25)
    assert cone.any()
    assert prepared.orientations.masks[:, cone].max() < 1e-6


def test_rows_with_24_rotations_have_those_that_keep_the_wedge(tomogram) -> None:
    config = override(preset("quick"), dict(rows.ROWS["rotations_24"].settings))
    orientations = prepare(tomogram, 16, masking=config.masking).orientations.rotations
    assert len(orientations) == 24
    assert set(symmetry_rotations(tomogram.tilts)) <= set(orientations)


def test_a_fixed_mask_neither_rotates_nor_hides_the_wedge(tomogram) -> None:
    config = override(preset("quick"), dict(rows.ROWS["fixed_mask"].settings))
    tables = prepare(tomogram, 16, masking=config.masking).orientations
    assert len(tables.rotations) == 1
    assert config.masking.rotated_fraction == 0
    assert tables.input_mask.min() == 1


def test_simpler_noise_has_the_same_power_and_less_detail(tomogram) -> None:
    noise = estimate_noise(tomogram.density, tomogram.halves, tomogram.tilts)
    radial, white = noise.simplified("radial").table, noise.simplified("white").table
    assert torch.allclose(radial.mean((1, 2)), noise.table.mean((1, 2)))
    assert radial.std((1, 2)).max() < 1e-6
    assert white.unique().numel() == 1
    assert noise.table.min() <= white.max() <= noise.table.max()
    assert noise.simplified("angular") is noise


def test_nulls_have_the_noise_of_the_data_and_nothing_in_their_wedge(folder: Path) -> None:
    for name in ("made_noise", "made_phases"):
        subject = data.load(name, folder)
        first, second = (torch.from_numpy(half) for half in subject.tomogram.halves or ())
        wedge, seen = regions(subject.tomogram.shape, subject.tomogram.tilts)
        power = fourier.transform((first + second) / 2).abs().square()
        assert (power * wedge).sum() < 1e-3 * (power * seen).sum()
    subject, original = data.load("made_noise", folder), data.load("made", folder)
    halves, measured = subject.tomogram.halves or (), original.tomogram.halves or ()
    noise = [estimate_noise(s.tomogram.density, s.tomogram.halves, s.tomogram.tilts).table.mean() for s in (subject, original)]
    assert noise[0] / noise[1] == pytest.approx(1.0, abs=0.05)
    agreement = score(torch.from_numpy(halves[0]), torch.from_numpy(halves[1]), subject.tomogram.tilts).measured.band
    assert abs(agreement) < 0.05
    # Bin by bin the halves share no power either: one noise is no copy of the other.
    powers = [fourier.transform(torch.from_numpy(half)).abs().square()[seen > 0] for half in halves]
    both = torch.stack([sum(powers), fourier.transform(torch.from_numpy(measured[0])).abs().square()[seen > 0]])
    assert torch.isfinite(both).all()
    assert (torch.minimum(*powers) / torch.maximum(*powers)).mean() > 0.2


def test_figures_are_those_of_evaluate(folder: Path) -> None:
    subject = data.load("made", folder)
    rng = torch.Generator().manual_seed(0)
    density = subject.truth + 2 * subject.truth.std() * torch.randn(subject.truth.shape, generator=rng)
    figures, expected = scoring.scores(density, subject), score(density, subject.truth, subject.tomogram.tilts)
    assert figures["measured"] == pytest.approx(expected.measured.band, abs=1e-4)
    assert figures["wedge"] == pytest.approx(expected.wedge.band, abs=1e-4)


def test_groups_stand_for_their_rows() -> None:
    names = rows.named(["vae", "family", "clipping"])
    assert names[0] == "vae"
    assert {"wae_mmd", "flow", "cryogen1", "cryogen2", "clipping"} < set(names)
    assert len(names) == len(set(names))
    assert all(row.model in rows.ROWS for row in rows.ROWS.values() if row.model)


def test_a_row_without_its_model_says_which_to_run_first(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="run the row vae first"):
        run.measured(data.load("made", folder), rows.ROWS["refined"], 1.0, 1, 1, tmp_path)


def test_a_truth_is_as_sharp_as_itself_whatever_its_grey_scale(folder: Path) -> None:
    subject = data.load("made", folder)
    truth = torch.as_tensor(subject.truth)
    assert scoring.sharpness(3 * truth, 3 * truth, subject) == pytest.approx([1.0] * len(scoring.SHELLS), rel=1e-3)
    blurred = fourier.filtered(truth, (fourier.radius(truth.shape) < 0.1).float())
    ratios = scoring.sharpness(blurred, truth, subject)
    assert ratios[0] == pytest.approx(1.0, rel=1e-3)
    assert max(ratios[2:]) < 1e-3


def test_one_picture_shows_all_rows(folder: Path, tmp_path: Path) -> None:
    subject = data.load("made", folder)
    for row, wedge in (("vae", 0.8), ("clipping", 0.5)):
        figure.keep_slice(tmp_path / f"made-{row}-1min-1.npy", torch.as_tensor(subject.truth))
        (tmp_path / f"made-{row}-1min-1.json").write_text(json.dumps({"row": row, "minutes": 1.0, "wedge": wedge}))
    figure.draw_slices(tmp_path, subject, tmp_path / "all.png")
    assert plt.imread(tmp_path / "all.png").std() > 0.1


def test_an_empty_wedge_correlates_with_nothing(folder: Path) -> None:
    subject = data.load("made", folder)
    figures = scoring.scores(torch.from_numpy(subject.tomogram.density), subject)
    assert figures["wedge"] == 0
    assert figures["measured"] > 0.5


def test_the_standard_error_is_how_far_chance_correlates(folder: Path) -> None:
    subject = data.load("made", folder)
    radius = fourier.radius(subject.truth.shape)
    colour = torch.exp(-radius / 0.03) + 0.01
    chance = []
    for seed in range(40):
        white = torch.randn(subject.truth.shape, generator=torch.Generator().manual_seed(seed))
        chance.append(scoring.scores(fourier.filtered(white, colour), subject))
    spread = torch.tensor([c["wedge"] for c in chance]).square().mean().sqrt().item()
    expected = torch.tensor([c["wedge_standard_error"] for c in chance]).mean().item()
    assert spread == pytest.approx(expected, rel=0.35)


def test_shell_wiener_fills_nothing_and_denoises(folder: Path) -> None:
    subject = data.load("made", folder)
    filtered = run.shell_wiener(subject)
    mask = volume_mask(filtered.shape, subject.tomogram.tilts)
    assert fourier.transform(filtered).abs()[mask == 0].max() < 1e-3
    before = scoring.scores(torch.from_numpy(subject.tomogram.density), subject)["measured"]
    assert scoring.scores(filtered, subject)["measured"] > before


def test_steps_fill_the_budget() -> None:
    config = override(preset("quick"), {"objective.completion_fraction": 0.5, "objective.refill_from": 1.0})
    seconds = {"completion": 1.0, "bound": 3.0, "check_completion": 2.0, "check_bound": 4.0}
    steps = cost.steps_within(seconds, config, 10.0)
    spent = steps * 2.0 + cost.VALIDATIONS * 3.0
    assert 0.99 * 1200 < spent <= 1200


def test_results_keep_what_was_written_around_the_tables(tmp_path: Path) -> None:
    figures = {"wedge": 0.5, "measured": 0.9, "wedge_by_shell": [0.5], "cone_30": 0.4, "steps": 7, "train_cpu_s": 100.0}
    figures |= {"cones": {"0-30": {"wedge": 0.4, "measured": None}}, "restore_cpu_s": 3.0, "peak_memory_gb": 0.5}
    about = {"about": "a row", "threads": 1, "commit": "abc", "torch": "2", "device": "cpu", "total_s": 3.0, "minutes": 1.0}
    made = figures | about | {"command": "python x"}
    for seed in (1, 2):
        record = made | {"data": "set", "row": "vae", "seed": seed, "wedge": 0.5 + 0.01 * seed}
        (tmp_path / f"set-vae-1min-{seed}.json").write_text(json.dumps(record))
    results = tmp_path / "RESULTS.md"
    results.write_text("before\n<!-- tables -->\nold\n<!-- tables -->\nafter\n")
    table.write_results(tmp_path, results)
    text = results.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "0.515 ± 0.007" in text
    assert "0-30° 0.40 / -" in text
    assert "python x" in text
    table.write_results(tmp_path, results)
    assert results.read_text() == text


def test_rows_of_other_sittings_stay_in_the_tables(tmp_path: Path) -> None:
    """Those with fewer columns too; the same row of as many minutes is replaced, another number of minutes is another row."""
    results = tmp_path / "RESULTS.md"
    old = "### set\n\n| row | min | wedge | GB |\n| --- | --- | --- | --- |\n| vae | 30 | 0.600 | 1.5 |\n"
    old += "| vae | 1 | 0.400 | 1.5 |\n"
    old += "| untouched | - | 0.100 | 0.3 |\n\nhow:\n\n- `vae` long ago\n- `vae` shorter\n- `untouched` made\n\n"
    results.write_text(f"before\n<!-- tables -->\n{old}<!-- tables -->\nafter\n")
    record = {"data": "set", "row": "vae", "minutes": 1.0, "seed": 1, "wedge": 0.5, "wedge_by_shell": [0.5], "steps": 7}
    record |= {"about": "anew", "command": "python x", "commit": "abc", "torch": "2", "device": "cpu", "total_s": 3.0}
    (tmp_path / "set-vae-1min-1.json").write_text(json.dumps(record))
    table.write_results(tmp_path, results)
    kept = table.written(results.read_text().split("<!-- tables -->")[1])["set"]
    assert list(kept) == [("vae", "30", "CPU"), ("vae", "1", "CPU"), ("untouched", "-", "-")]
    assert kept["vae", "30", "CPU"].cells["GB"] == "1.5"
    assert kept["vae", "30", "CPU"].cells["steps"] == "-"
    assert kept["vae", "30", "CPU"].how == "- `vae` long ago"
    assert kept["vae", "1", "CPU"].cells["wedge"] == "0.500"
    assert "anew" in kept["vae", "1", "CPU"].how


def test_rows_of_one_kind_cost_the_same_and_fixed_ones_nothing() -> None:
    kinds = {name: cost.kind_of(row) for name, row in rows.ROWS.items()}
    assert kinds["vae"] == kinds["no_refill"] == kinds["flat_latent"]
    assert kinds["vae"] != kinds["vae_one_encoder"]
    assert kinds["unet_isonet2"] != kinds["unet_isonet2_mw"]
    assert kinds["clipping"] == ""


def test_what_is_spent_is_processor_time() -> None:
    with cost.Spent(torch.device("cpu")) as idle:
        time.sleep(0.2)
    assert idle.seconds < 0.1
    with cost.Spent(torch.device("cpu")) as busy:
        began = time.process_time()
        while time.process_time() - began < 0.2:
            torch.randn(1000).sum()
    assert busy.seconds == pytest.approx(0.2, abs=0.1)


@pytest.mark.slow
def test_rows_run_beside_each_other_once_and_none_begins_too_late(folder: Path, monkeypatch, capsys) -> None:
    words = [
        "run.py",
        "--out",
        str(folder / "out"),
        "--simulated",
        str(folder),
        "--data",
        "made",
        "--threads",
        "1",
        "--jobs",
        "2",
    ]

    def said(*more: str) -> str:
        monkeypatch.setattr(sys, "argv", [*words, "--rows", "untouched", "shell_wiener", *more])
        run.main()
        return str(capsys.readouterr().out)

    assert said("--until", "0").count("not begun") == 2
    assert not list((folder / "out").glob("*.json"))
    assert "not begun" not in said()
    records = [json.loads(path.read_text()) for path in (folder / "out").glob("*.json")]
    assert {r["row"] for r in records} == {"untouched", "shell_wiener"}
    assert all(r["jobs"] == 2 and r["device"] == "cpu" for r in records if not torch.cuda.is_available())
    before = [path.stat().st_mtime_ns for path in (folder / "out").glob("*.json")]
    said()
    assert before == [path.stat().st_mtime_ns for path in (folder / "out").glob("*.json")]


def test_error_bars_of_an_exact_posterior_are_right(tilts):
    """Mean and truth are samples of one Gaussian: errors as large as the standard deviation, samples twice as far in square."""
    rng = torch.Generator().manual_seed(0)
    shape = (24, 40, 36)

    def drawn():
        return torch.randn(shape, generator=rng)

    mean = 2 * drawn()
    truth, samples = mean + drawn(), [mean + drawn() for _ in range(8)]
    bins = volume_mask(shape, tilts) > 0.99
    scores = error_bars.shell_scores(mean, samples, truth, bins, 0.05, 0.4)
    assert scores["error_over_std"] == pytest.approx(1, abs=0.03)
    assert scores["factor_two"] == pytest.approx(2, abs=0.06)
    assert scores["correlation"] == pytest.approx((4 / 5) ** 0.5, abs=0.01)
    assert scores["power"] == pytest.approx(1, abs=0.03)
    shrunk = error_bars.shell_scores(0.5 * mean, [], truth, bins, 0.05, 0.4)
    assert shrunk["power"] == pytest.approx(0.25, abs=0.01)
    assert set(shrunk) == {"correlation", "power"}
