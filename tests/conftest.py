"""Volumes that are not cubes, small ladders, and the shared data where there are any."""

from __future__ import annotations

import os
from pathlib import Path

# Two workers on two cores: threads of more than one would wait for each other, here and in the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Results are compared to rounding of float32, whatever the processor has.
os.environ["CRYOVAE_NO_BFLOAT16"] = "1"

import mrcfile
import numpy as np
import pytest
import torch

from cryovae.models.ladder import Ladder
from cryovae.models.ladder_config import LadderConfig
from cryovae.simulation.simulate import Simulation, SimulationConfig, simulate
from cryovae.tomogram import TiltGeometry, Tomogram
from cryovae.workflows import memory

torch.set_flush_denormal(True)
torch.set_num_threads(1)

# Tests of these folders share what a machine has once: a screen, a Slurm.
TOGETHER = ("tests/cluster/", "tests/napari_plugin/")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Several workers (``-n 2 --dist loadgroup``): the folders above stay on one each, and what takes longest comes first."""
    for item in items:
        for folder in TOGETHER:
            if item.nodeid.startswith(folder):
                item.add_marker(pytest.mark.xdist_group(folder))
    if config.pluginmanager.hasplugin("xdist") and (
        getattr(config, "workerinput", None) or config.getoption("numprocesses", None)
    ):
        items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data; tests that ask for it are skipped without it."""
    where = os.environ.get("CRYOVAE_SHARED_DATA")
    if not where or not Path(where).is_dir():
        pytest.skip("CRYOVAE_SHARED_DATA names no folder of shared data")
    return Path(where)


@pytest.fixture(scope="session")
def simulation() -> Simulation:
    """A small simulated tomogram, 40 x 56 x 48, +-60 degrees."""
    return simulate(SimulationConfig(shape=(40, 56, 48), seed=3))


@pytest.fixture(scope="session")
def tomogram(simulation: Simulation) -> Tomogram:
    half1, half2 = simulation.half1.numpy(), simulation.half2.numpy()
    return Tomogram("small", (half1 + half2) / 2, 10.0, simulation.tilts, (half1, half2))


@pytest.fixture(scope="session")
def small(tomogram: Tomogram) -> Tomogram:
    """A corner of it, 24 x 36 x 32, for what restores whole volumes again and again."""
    corner = (slice(0, 24), slice(0, 36), slice(0, 32))
    half1, half2 = (h[corner].copy() for h in tomogram.halves)
    return Tomogram("corner", (half1 + half2) / 2, 10.0, tomogram.tilts, (half1, half2))


@pytest.fixture
def tilts() -> TiltGeometry:
    return TiltGeometry.from_range(-60, 60)


@pytest.fixture
def small_config() -> LadderConfig:
    return LadderConfig(widths=(4, 6, 8), latents=(2, 3, 4), blocks=1)


@pytest.fixture
def ladder(small_config: LadderConfig) -> Ladder:
    """A ladder whose zeroed layers have random weights, so that nothing is trivially zero."""
    torch.manual_seed(0)
    made = Ladder(small_config)
    for parameter in made.parameters():
        if parameter.ndim > 1 and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return made


def write_mrc(path: Path, density: np.ndarray, voxel_size: float = 10.0) -> Path:
    """An MRC file as a user would have it."""
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(density)
        if density.ndim == 3:
            mrc.set_volume()
        mrc.voxel_size = voxel_size
    return path


def _written(folder: Path, halves: tuple[np.ndarray, ...], truth: np.ndarray, tilts: TiltGeometry) -> dict[str, Path]:
    """A tomogram as files: half1, half2, full, truth, tilts."""
    paths = {
        "half1": write_mrc(folder / "ts_01_EVN.mrc", halves[0]),
        "half2": write_mrc(folder / "ts_01_ODD.mrc", halves[1]),
        "full": write_mrc(folder / "ts_01.mrc", (halves[0] + halves[1]) / 2),
        "truth": write_mrc(folder / "truth.mrc", truth),
        "tilts": folder / "ts_01.tlt",
    }
    paths["tilts"].write_text("\n".join(f"{a:.1f}" for a in tilts.angles) + "\n")
    return paths


@pytest.fixture
def fresh_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """A budget of memory counts what the process takes. That of a user is new; one that ran tests may take gigabytes."""
    monkeypatch.setattr(memory, "resident", lambda what="VmRSS": memory.PROGRAM)


@pytest.fixture
def files(tmp_path: Path, simulation: Simulation) -> dict[str, Path]:
    """The simulation as files: half1, half2, full, truth, tilts."""
    halves = simulation.half1.numpy(), simulation.half2.numpy()
    return _written(tmp_path, halves, simulation.truth.numpy(), simulation.tilts)


@pytest.fixture
def small_files(tmp_path: Path, simulation: Simulation, small: Tomogram) -> dict[str, Path]:
    """The corner as files, for what runs whole commands: a fifth of the voxels."""
    truth = simulation.truth.numpy()[tuple(slice(0, n) for n in small.shape)]
    return _written(tmp_path, small.halves, truth, small.tilts)


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory, small: Tomogram) -> Path:
    """A folder with the corner as ts_01.mrc, and in its folder "run" a restoration of it after 4 steps. Copy it to change it."""
    from tests.helpers.cli import RANGE, TINY, cryovae

    folder = tmp_path_factory.mktemp("small_run")
    write_mrc(folder / "ts_01.mrc", small.density)
    result = cryovae("restore", folder / "ts_01.mrc", *RANGE, "-o", folder / "run", "--steps", "4", *TINY)
    assert result.returncode == 0, result.stderr
    return folder
