"""Four small tomograms in a table, one of them damaged, settings of a tiny ladder; and a Slurm to send jobs to."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from cryovae.simulation.simulate import SimulationConfig, simulate
from tests.cluster.slurm import LocalSlurm, install
from tests.conftest import write_mrc

COLUMNS = (
    "rlnTomoName", "rlnTomoReconstructedTomogram", "rlnTomoReconstructedTomogramHalf1", "rlnTomoReconstructedTomogramHalf2",
    "rlnPixelSize", "rlnTiltMin", "rlnTiltMax", "crvTruth",
)  # fmt: skip
DAMAGED = "TS_3"
TINY = """
[ladder]
widths = [4, 6, 8]
latents = [2, 3, 4]
blocks = 1
[training]
patch = 16
steps = {steps}
validate_every = 10
checkpoint_minutes = {minutes}
[restoration]
samples = 2
sampler = "amortised"
"""


def make_set(folder: Path, steps: int = 60, minutes: float = 10.0) -> Path:
    """tomograms.star, and tiny.toml beside it: TS_1 as halves with its truth, the others as single volumes; TS_3 has a NaN."""
    rows = []
    for number in range(1, 5):
        made = simulate(SimulationConfig(shape=(20, 20 + 4 * number, 28), seed=number))
        name, halves = f"TS_{number}", (made.half1.numpy(), made.half2.numpy())
        volumes = f"{name}.mrc None None"
        if number == 1:
            for half, density in zip(("EVN", "ODD"), halves, strict=True):
                write_mrc(folder / f"{name}_{half}.mrc", density)
            write_mrc(folder / "truth.mrc", made.truth.numpy())
            volumes = f"None {name}_EVN.mrc {name}_ODD.mrc"
        else:
            write_mrc(folder / f"{name}.mrc", (halves[0] + halves[1]) / 2)
        rows.append(f"{name} {volumes} 10.0 -60 60 {'truth.mrc' if number == 1 else 'None'}")
    set_voxel(folder / f"{DAMAGED}.mrc", np.nan)
    (folder / "tiny.toml").write_text(TINY.format(steps=steps, minutes=minutes))
    head = ["data_", "", "loop_", *(f"_{name} #{i}" for i, name in enumerate(COLUMNS, 1))]
    path = folder / "tomograms.star"
    path.write_text("\n".join([*head, *rows]) + "\n")
    return path


def set_voxel(path: Path, value: float) -> None:
    """Damage a tomogram, or mend it."""
    with mrcfile.open(path, mode="r+") as mrc:
        mrc.data[3, 4, 5] = value


def cryovae(*words, env=None, check=True):
    """The command line in a process of its own, on one thread."""
    command = [sys.executable, "-m", "cryovae", *map(str, words)]
    bare = {name: value for name, value in (env or os.environ).items() if not name.startswith("SLURM_") or name == "SLURM_CONF"}
    done = subprocess.run(command, env=bare | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="session")
def slurm():
    """A Slurm with one node and two GPUs. Skipped where it cannot be installed, but not in CI."""
    why = install()
    if why is not None and os.environ.get("CI") == "true":
        pytest.fail(f"no Slurm in CI: {why}")
    if why is not None:
        pytest.skip(f"no Slurm: {why}")
    # Not in pytest's folders: the path of a socket may be no longer than 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="slurm"))
    started = LocalSlurm(folder)
    try:
        started.start()
        yield started
    finally:
        started.stop()
        shutil.rmtree(folder, ignore_errors=True)
