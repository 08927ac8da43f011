"""What biologists do with a restored tomogram: pick molecules, average them, trace membranes. One command, one table.

    CRYOVAE_SHARED_DATA=data python pipelines/benchmark/downstream.py --out OUT

Simulated scenes with known positions, at two noise levels, two seeds each; every scene also without the molecules that are
picked, others in their place between the same membranes. Four volumes of each: raw (both halves together), measured (the
VAE's mean without its wedge), mean, and a U-Net trained by DeepDeWedge's loss for the processor time of the VAE. Molecules are
picked by template matching (matching.py); the template has the wedge for raw and measured, which have one, and none for mean
and unet, whose wedge is filled. A pick is right within half of the radius of the molecule. Averages are of raw subtomograms in
all cases: as many picks as there are molecules, in the orientation of the pick ("picked"), or right ones in the true
orientation and false ones in any ("true"). Stages that are done are in OUT and are passed over. Written are
downstream.json, downstream.md and downstream.png.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from averages import agreement, averaged
from downstream_figure import SHOWN, draw
from downstream_table import markdown
from matching import Peaks, Template, match, peaks, rotation_grid
from membranes import membranes_of, sheets, surface_dice, true_sheets
from ranking import area_under_curve, average_precision, curve, precision_at, rank_at_recall, right_picks
from scenes import PICKED, SHAPE, VOLUMES, VOXEL, Case, make_tomograms
from scipy.spatial.transform import Rotation
from torch import Tensor

from cryovae.errors import InputError
from cryovae.io.atomic import write_text
from cryovae.io.molecules import Molecule, read_molecule
from cryovae.io.star.table import read_blocks
from cryovae.simulation.scene import SceneConfig
from cryovae.simulation.tilt_series import AcquisitionConfig, transfers

RECALLS = (0.5, 0.7, 0.9)
# Rotations and binning of each template: large molecules need finer angles, small ones finer voxels.
SEARCH = {"4v4r": (1500, 0.5), "1bxn": (500, 0.75), "1qvr": (600, 0.75)}
# Whose wedge is removed from the template.
WITH_WEDGE = ("raw", "measured")
# What is matched at once.
GROUPS = {"vae": ("raw", "measured", "mean"), "unet": ("unet",)}
# Picks of a tomogram at most, for each of its molecules; distance of two picks in radii of a ball of the molecule's volume.
MOST, APART = 20, 1.5


def main() -> None:
    """Make what is not there yet, and write the table."""
    options = _options()
    torch.set_num_threads(options.threads)
    shared = os.environ.get("CRYOVAE_SHARED_DATA")
    if not shared:
        raise InputError("CRYOVAE_SHARED_DATA is not set, expected the folder that has phantom/10A")
    maps = Path(shared) / "phantom" / "10A"
    molecules = {name: read_molecule(maps / f"{name}.mrc", VOXEL) for name in PICKED}
    cases = [Case(options.out, snr, seed, options.threads) for seed in options.seeds for snr in options.snr]
    results = []
    for case in cases:
        if not options.table:
            make_tomograms(case, maps)
            for name, group in product(PICKED, GROUPS):
                make = partial(_picked, case, molecules[name], GROUPS[group])
                case.stage(f"pick_{name}_{group}", make)
        if not all(_picks_file(case, name, group).exists() for name, group in product(PICKED, GROUPS)):
            print(f"{case.name}: not there, left out of the table")
            continue
        results.append(
            case.stage("measure", lambda case=case: _measured(case, molecules))
            | {"name": case.name, "snr": case.snr, "seed": case.seed}
        )
        _write(options.out, results, cases, molecules)
    print((options.out / "downstream.md").read_text())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--snr", type=float, nargs="+", default=[0.1, 0.03], help="signal over noise variance of the tomograms")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--table", action="store_true", help="make nothing, write the table of what is there")
    return parser.parse_args()


def transfer(frequency: Tensor) -> Tensor:
    """Mean contrast transfer and damage of all tilts of the simulated microscope, at |k| (...) in cycles per voxel."""
    acquisition = AcquisitionConfig(voxel_size=VOXEL)
    return torch.stack(transfers(frequency, acquisition, np.full(len(acquisition.angles), acquisition.defocus))).mean(0)


def _picks_file(case: Case, name: str, group: str) -> Path:
    return case.folder / case.name / f"stage_pick_{name}_{group}.json"


def picks_of(case: Case, name: str) -> dict[str, Peaks]:
    """The picks of a molecule, by scene and volume, e.g. ``with_raw``."""
    kept = [json.loads(_picks_file(case, name, group).read_text())["picks"] for group in GROUPS]
    return {key: Peaks(**{k: np.array(v) for k, v in one.items()}) for part in kept for key, one in part.items()}


def _picked(case: Case, molecule: Molecule, kinds: Sequence[str]) -> dict[str, Any]:
    """Positions, scores and rotations of the picks of one molecule, by scene and volume."""
    count, binning = SEARCH[molecule.name]
    template = Template(torch.from_numpy(-molecule.density), molecule.radius, transfer)
    wedges = [case.tilts if kind in WITH_WEDGE else None for kind in kinds]
    ball = (3 * molecule.volume / (4 * np.pi)) ** (1 / 3)
    most = MOST * max(len(_known(case, molecule)[0]), 1)
    picks: dict[str, Any] = {}
    for scene in ("with", "without"):
        volumes = torch.stack([case.volume(scene, kind) for kind in kinds])
        scores, which = match(volumes, template, rotation_grid(count), wedges, binning)
        for kind, score, rotation in zip(kinds, scores, which, strict=True):
            best = peaks(score, rotation, APART * ball, molecule.radius / 2, most, binning)
            picks[f"{scene}_{kind}"] = {name: np.round(values, 5).tolist() for name, values in vars(best).items()}
    return {"picks": picks}


def _known(case: Case, molecule: Molecule) -> tuple[np.ndarray, Rotation]:
    """Positions (n, 3) as z, y, x, and rotations, of a molecule away from the faces of the tomogram."""
    table = read_blocks(case.folder / case.name / "with_molecules.star")["particles"].columns
    positions = np.array([table[f"rlnCoordinate{axis}"] for axis in "ZYX"], dtype=float).T
    border = molecule.radius / 2
    inside = ((positions >= border) & (positions <= np.array(SHAPE) - 1 - border)).all(1)
    inside &= np.array(table["rlnGroupName"]) == molecule.name
    angles = np.array([table[f"rlnAngle{angle}"] for angle in ("Rot", "Tilt", "Psi")], dtype=float).T
    return positions[inside], Rotation.from_euler("ZYZ", angles[inside], degrees=True).inv()


def _measured(case: Case, molecules: dict[str, Molecule]) -> dict[str, Any]:
    """All figures of one case."""
    raw, std = case.volume("with", "raw"), case.volume("with", "std")
    figures: dict[str, Any] = {"molecules": {}, "membranes": _membranes(case)}
    for name, molecule in molecules.items():
        all_picks = picks_of(case, name)
        positions, rotations = _known(case, molecule)
        volumes = {
            kind: _figures(all_picks[f"with_{kind}"], all_picks[f"without_{kind}"], positions, molecule)
            | _averages(all_picks[f"with_{kind}"], positions, rotations, molecule, raw, case)
            for kind in VOLUMES
        }
        auc = _std_at_picks(all_picks["with_mean"], positions, molecule, std)
        figures["molecules"][name] = {"there": len(positions), "volumes": volumes, "std_auc": auc}
    return figures


def _figures(picks: Peaks, absent: Peaks, positions: np.ndarray, molecule: Molecule) -> dict[str, Any]:
    """Of the picks where the molecule is, and of those where it is absent, at the threshold of recall 0.7."""
    total = len(positions)
    right = right_picks(picks.positions, positions, molecule.radius / 2) >= 0
    rank = rank_at_recall(right, total, 0.7)
    recall, precision = curve(right, total)
    return {
        "average_precision": average_precision(right, total),
        **{f"precision_{level:g}": precision_at(right, total, level) for level in RECALLS},
        "false_in_scene": None if rank is None else int((~right[:rank]).sum()),
        "false_in_absent": None if rank is None else int((absent.scores >= picks.scores[rank - 1]).sum()),
        "recall": np.round(recall, 4).tolist(),
        "precision": np.round(precision, 4).tolist(),
    }


def _averages(
    picks: Peaks, positions: np.ndarray, rotations: Rotation, molecule: Molecule, raw: Tensor, case: Case
) -> dict[str, float | None]:
    """Averages of the best picks, as many as there are molecules."""
    count = min(len(positions), len(picks.positions))
    places = picks.positions[:count]
    picked = rotation_grid(SEARCH[molecule.name][0])[picks.rotations[:count]]
    owners = right_picks(places, positions, molecule.radius / 2)
    chance = Rotation.random(count, rng=np.random.default_rng(0))
    right = owners >= 0
    quaternions = np.where(right[:, None], rotations.as_quat()[owners], chance.as_quat())
    true_places = np.where(right[:, None], positions[owners], places)
    figures: dict[str, float | None] = {}
    for pose, (at, pose_of) in {"picked": (places, picked), "true": (true_places, Rotation.from_quat(quaternions))}.items():
        average = averaged(raw, at, pose_of, molecule.radius, case.tilts)
        figures |= {
            f"{k}_{pose}": None if np.isnan(v) else v
            for k, v in agreement(average, -molecule.density, molecule.radius, transfer, VOXEL).items()
        }
    return figures


def _std_at_picks(picks: Peaks, positions: np.ndarray, molecule: Molecule, std: Tensor) -> dict[str, float | None]:
    """Whether the deviation is larger at false picks of the mean than at right ones, among twice as many picks as molecules."""
    places = picks.positions[: 2 * len(positions)]
    right = right_picks(places, positions, molecule.radius / 2) >= 0
    half = molecule.radius / 2
    grid = np.stack(np.meshgrid(*[np.arange(-np.ceil(half), np.ceil(half) + 1)] * 3, indexing="ij"), -1).reshape(-1, 3)
    ball = grid[(grid**2).sum(1) <= half**2]
    volume = std.numpy()
    at = np.clip(np.rint(places[:, None] + ball).astype(int), 0, np.array(volume.shape) - 1)
    values = volume[at[..., 0], at[..., 1], at[..., 2]].mean(1)
    auc = area_under_curve(values[~right], values[right])
    return {"auc": None if np.isnan(auc) else auc, "right": int(right.sum()), "false": int((~right).sum())}


def _membranes(case: Case) -> dict[str, float]:
    truth = true_sheets(membranes_of(SceneConfig(SHAPE, VOXEL, sheets=1, vesicles=3), case.seed))
    return {kind: surface_dice(sheets(case.volume("with", kind)), truth) for kind in VOLUMES}


def _write(out: Path, results: list[dict[str, Any]], cases: list[Case], molecules: dict[str, Molecule]) -> None:
    """downstream.json, downstream.md and downstream.png."""
    spent: dict[str, float] = defaultdict(float)
    done = {r["name"] for r in results}
    for case in (case for case in cases if case.name in done):
        for path in sorted((out / case.name).glob("stage_*.json")):
            spent[path.stem.removeprefix("stage_")] += json.loads(path.read_text())["cpu_s"]
    write_text(out / "downstream.json", json.dumps({"cases": results, "cpu_s": spent}, indent=1) + "\n")
    write_text(out / "downstream.md", markdown(results, spent, [case.name for case in cases if case.name not in done]))
    last = next(case for case in cases if case.name in done)
    shown = molecules[SHOWN]
    draw(out / "downstream.png", last, results, shown, _known(last, shown)[0], picks_of(last, SHOWN))


if __name__ == "__main__":
    main()
