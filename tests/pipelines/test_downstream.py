"""The parts of downstream.py: picker, ranking, membranes, averages, and stages that are not run again."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from cryovae import fourier
from cryovae.io.molecules import Molecule
from cryovae.physics.rotation import rotate
from cryovae.physics.wedge import volume_mask
from cryovae.simulation.scene import SceneConfig, build_scene
from cryovae.simulation.tilt_series import AcquisitionConfig, margin_of
from cryovae.tomogram import TiltGeometry

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "pipelines" / "benchmark"))

import averages
import downstream
import downstream_table
import matching
import membranes
import ranking
import scenes

TILTS = TiltGeometry.from_range(-60, 60)
SHAPE, RADIUS = (48, 56, 64), 7.0
PLACES = np.array([[12, 12, 14], [14, 40, 20], [36, 16, 44], [32, 42, 50]])


def flat(frequency: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(frequency)


@pytest.fixture(scope="module")
def blob() -> torch.Tensor:
    """A map without symmetry, 17 voxels wide."""
    grid = np.stack(np.meshgrid(*[np.arange(-8, 9)] * 3, indexing="ij"), -1)
    centres = np.array([[0, 0, 0], [4, 1, 0], [-2, 4, 1], [-1, -3, 4], [1, 2, -5]])
    heights = [1.0, 0.8, 1.2, 0.7, 1.0]
    return torch.from_numpy(
        sum(h * np.exp(-((grid - c) ** 2).sum(-1) / 4) for c, h in zip(centres, heights, strict=True)).astype(np.float32)
    )


@pytest.fixture(scope="module")
def planted(blob: torch.Tensor) -> tuple[torch.Tensor, np.ndarray]:
    """A tomogram with four copies at PLACES behind a wedge, and the numbers of their rotations in a grid of 90."""
    numbers = np.array([3, 27, 55, 80])
    density = torch.zeros(SHAPE)
    for place, matrix in zip(PLACES, matching.zyx(matching.rotation_grid(90)[numbers]), strict=True):
        z, y, x = (slice(p - 8, p + 9) for p in place)
        density[z, y, x] += rotate(blob[None, None], matrix)[0, 0]
    noise = 0.15 * torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    return fourier.filtered(density + noise, volume_mask(SHAPE, TILTS)), numbers


def picked(planted, blob, wedge, binning=0.75):
    template = matching.Template(blob, RADIUS, flat)
    scores, which = matching.match(planted[0][None], template, matching.rotation_grid(90), [wedge], binning)
    return scores[0], matching.peaks(scores[0], which[0], RADIUS, 4, 10, binning)


def test_rotations_of_the_grid_are_spread_evenly() -> None:
    grid = matching.rotation_grid(300)
    matrices = grid.as_matrix()
    assert np.abs(matrices.mean(0)).max() < 0.02
    nearest = [np.degrees((grid[i].inv() * grid).magnitude())[np.arange(300) != i].min() for i in range(0, 300, 7)]
    # 300 rotations of the 8 pi^2 of SO(3): about 37 degrees apart.
    assert min(nearest) > 20
    assert max(nearest) < 50


@pytest.mark.parametrize("binning", [0.75, 1.0])
def test_planted_molecules_are_the_best_picks_in_their_rotations(planted, blob, binning) -> None:
    scores, picks = picked(planted, blob, TILTS, binning)
    owners = ranking.right_picks(picks.positions[:4], PLACES, 1.5)
    assert sorted(owners) == [0, 1, 2, 3]
    assert (picks.rotations[:4] == planted[1][owners]).all()
    assert picks.scores[3] > picks.scores[4] + 0.1
    assert float(scores.max()) <= 1


def test_the_wedge_of_the_template_fits_that_of_the_tomogram(planted, blob) -> None:
    with_wedge, without = (picked(planted, blob, wedge)[1].scores[:4].mean() for wedge in (TILTS, None))
    assert with_wedge > without + 0.02


def test_a_grey_scale_changes_no_score(planted, blob) -> None:
    volume = planted[0]
    scores = [picked((v, planted[1]), blob, TILTS)[1].scores for v in (volume, 7 * volume - 300)]
    assert np.abs(scores[0] - scores[1]).max() < 1e-3


def test_picks_keep_their_distance_from_each_other_and_from_the_faces() -> None:
    score = torch.rand(12, 16, 20, generator=torch.Generator().manual_seed(0))
    picks = matching.peaks(score, torch.zeros(score.shape, dtype=torch.int16), 6.0, 3.0, 100, 0.5)
    distances = np.sqrt(((picks.positions[:, None] - picks.positions) ** 2).sum(-1)) + 1e9 * np.eye(len(picks.positions))
    assert len(picks.positions) > 20
    assert distances.min() >= 6
    assert picks.positions.min() >= 3
    assert (picks.positions <= np.array([24, 32, 40]) - 4).all()
    assert (np.diff(picks.scores) <= 0).all()


def test_each_molecule_has_one_right_pick() -> None:
    picks = np.array([[0, 0, 1], [0, 0, -1], [10, 0, 0], [0, 9, 0]])
    assert list(ranking.right_picks(picks, np.array([[0, 0, 0], [0, 8, 0]]), 2.0)) == [0, -1, -1, 1]
    assert list(ranking.right_picks(picks, np.zeros((0, 3)), 2.0)) == [-1] * 4


def test_precision_by_hand() -> None:
    right = np.array([True, False, True, True, False])
    # Of four molecules three are picked, at ranks 1, 3 and 4.
    assert ranking.average_precision(right, 4) == pytest.approx((1 + 2 / 3 + 3 / 4) / 4)
    assert ranking.precision_at(right, 4, 0.5) == pytest.approx(2 / 3)
    assert ranking.precision_at(right, 4, 0.75) == pytest.approx(3 / 4)
    assert ranking.precision_at(right, 4, 0.9) == 0
    assert ranking.rank_at_recall(right, 4, 0.7) == 4
    assert ranking.rank_at_recall(right, 4, 0.9) is None


def test_area_under_the_curve_by_hand() -> None:
    # Pairs: 3 > 1, 3 > 2, 2 > 1, 2 = 2.
    assert ranking.area_under_curve(np.array([3, 2]), np.array([1, 2])) == pytest.approx(3.5 / 4)
    assert np.isnan(ranking.area_under_curve(np.array([]), np.array([1.0])))


def test_a_planted_membrane_is_segmented_and_molecules_are_not(blob) -> None:
    shape = (48, 64, 56)
    _, y, x = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
    distance = np.cos(0.5) * (y - 32) + np.sin(0.5) * (x - 28)
    membrane = torch.from_numpy((np.exp(-((np.abs(distance) - 1.9) ** 2) / 1.0)).astype(np.float32))
    crowd = torch.zeros(shape)
    for place in ((12, 14, 14), (34, 12, 30), (30, 50, 42), (12, 52, 16)):
        crowd[tuple(slice(p - 8, p + 9) for p in place)] += 2 * blob
    noise = 0.3 * torch.randn(shape, generator=torch.Generator().manual_seed(1))
    truth = membranes.true_sheets(membrane)
    assert truth.sum() == pytest.approx(2 * 48 * 56 / np.cos(0.5), rel=0.4)
    on_membrane = [membranes.surface_dice(membranes.sheets(-(v + crowd) + noise), truth) for v in (membrane, 0 * membrane)]
    assert on_membrane[0] > 0.7
    assert on_membrane[1] < 0.2


def test_surface_dice_by_hand() -> None:
    first, second = np.zeros((2, 12, 10, 9), dtype=bool)
    first[3], second[5] = True, True
    second[5, :5] = False
    # All of the second is two voxels from the first; of the first, the half below it, and no row more.
    assert membranes.surface_dice(first, second, 2.0) == pytest.approx((45 + 45) / (90 + 45))
    assert membranes.surface_dice(first, second, 1.9) == 0
    assert membranes.surface_dice(first, first, 0.0) == 1
    assert membranes.surface_dice(first, np.zeros_like(first), 2.0) == 0


def test_true_membranes_are_those_of_the_simulated_scene(blob) -> None:
    config = SceneConfig((40, 56, 48), 10.0, 0.1, 5, 1, 1, 0, 0)
    margin = margin_of(config.shape, AcquisitionConfig().angles, config.slab[1] - config.slab[0])
    scene = build_scene(config, [Molecule("one", blob.numpy(), RADIUS)], margin, np.random.default_rng(4))
    alone = membranes.membranes_of(config, 4).numpy()
    inside = alone > 0.3
    assert scene.placements
    assert inside.mean() > 0.01
    # Molecules have faint tails that reach into a membrane.
    assert np.corrcoef(scene.inside[inside], alone[inside])[0, 1] > 0.98


def test_averages_of_right_picks_resemble_the_map(planted, blob) -> None:
    rotations = matching.rotation_grid(90)[planted[1]]
    figures = {}
    for kind, poses in (("right", rotations), ("wrong", Rotation.random(4, rng=np.random.default_rng(0)))):
        average = averages.averaged(planted[0], PLACES.astype(float), poses, RADIUS, TILTS)
        figures[kind] = averages.agreement(average, blob.numpy(), RADIUS, flat, 10.0)
    assert figures["right"]["fsc"] > 0.6
    assert figures["right"]["fsc"] > figures["wrong"]["fsc"] + 0.3
    assert figures["right"]["resolution"] < 45


def test_false_picks_are_counted_where_the_molecule_is_absent() -> None:
    molecule = Molecule("1bxn", np.ones((3, 3, 3)), 4.0)
    known = np.array([[0, 0, 0], [0, 0, 30], [0, 30, 0], [30, 0, 0]], dtype=float)
    places = np.array([[0, 0, 1], [9, 9, 9], [0, 0, 30], [0, 30, 0]], dtype=float)
    picks = matching.Peaks(places, np.array([0.9, 0.8, 0.7, 0.6]), np.zeros(4, dtype=int))
    absent = matching.Peaks(places, np.array([0.65, 0.61, 0.6, 0.2]), np.zeros(4, dtype=int))
    figures = downstream._figures(picks, absent, known, molecule)
    # Recall 0.7 of four molecules is reached by the third right pick, of score 0.6.
    assert (figures["false_in_scene"], figures["false_in_absent"]) == (1, 3)
    assert downstream._figures(picks, absent, np.concatenate([known + 100, known]), molecule)["false_in_absent"] is None


def test_std_is_compared_at_false_and_right_picks() -> None:
    molecule = Molecule("1bxn", np.ones((3, 3, 3)), 4.0)
    std = torch.ones(20, 24, 28)
    std[:, :, 14:] = 2.0
    known = np.array([[8.0, 8, 8], [12, 12, 8]])
    places = np.array([[8.0, 8, 8], [12, 12, 8], [8, 8, 20], [12, 12, 20]])
    picks = matching.Peaks(places, np.arange(4.0)[::-1], np.zeros(4, dtype=int))
    assert downstream._std_at_picks(picks, known, molecule, std) == {"auc": 1.0, "right": 2, "false": 2}


def test_a_stage_that_is_done_is_passed_over(tmp_path: Path) -> None:
    case = scenes.Case(tmp_path, 0.1, 3, 1)
    first = case.stage("made", lambda: {"figure": 1})
    assert case.stage("made", lambda: pytest.fail("it was made twice")) == first
    assert first["figure"] == 1
    assert first["cpu_s"] >= 0
    assert json.loads((tmp_path / case.name / "stage_made.json").read_text()) == first


def test_the_table_has_a_row_for_each_volume_and_no_mean_of_what_is_missing() -> None:
    volume = {"average_precision": 0.5, "precision_0.5": 0.6, "precision_0.7": 0.4, "precision_0.9": 0.2}
    volume |= {
        "false_in_absent": None,
        "fsc_picked": 0.3,
        "fsc_true": 0.4,
        "resolution_picked": float("nan"),
        "resolution_true": 40.0,
    }
    molecule = {"there": 7, "volumes": dict.fromkeys(scenes.VOLUMES, volume), "std_auc": {"auc": 0.75, "right": 5, "false": 9}}
    case = {"name": "a", "snr": 0.1, "seed": 1, "membranes": dict.fromkeys(scenes.VOLUMES, 0.25)}
    case |= {"molecules": dict.fromkeys(scenes.PICKED, molecule)}
    text = downstream_table.markdown([case, case | {"seed": 2}], {"unet": 30.0, "vae_with": 12.0}, ["b"])
    rows = [line for line in text.splitlines() if line.startswith("| 0.1 |")]
    assert len(rows) == len(scenes.PICKED) * len(scenes.VOLUMES) + 1 + len(scenes.PICKED)
    assert "| 7+7 | raw | 0.500 | 0.50/0.50 | 0.60 | 0.40 | 0.20 | - | 0.300 | - | 0.400 | 40.0 |" in rows[0]
    assert "| all | 42 |" in text
    assert "in no figure: b." in text
