"""A truth measured by a microscope: the HAADF tilt series, reconstructed from a part of its tilts.

    CRYOVAE_SHARED_DATA=... python pipelines/benchmark/haadf.py OUT [--range 60]

Writes haadf_half1.mrc and haadf_half2.mrc (even and odd tilts within the range), haadf.tlt, haadf_truth.mrc (all tilts) and
haadf_truth.tlt, which says where the truth was measured: ``run.py --simulated OUT --data haadf`` scores nothing beyond it.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import torch

from cryovae.io.atomic import write_text
from cryovae.io.files import read_volume, write_volume
from cryovae.io.tilts import read_tilts
from cryovae.physics.projection import weighted_back_projection

# The rows that hold the needle, and how deep it is, in pixels.
ROWS, DEPTH, WIDTH = slice(40, 248), 112, 112


def main() -> None:
    """Reconstruct, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--range", type=float, default=60.0, help="degrees")
    options = parser.parse_args()
    series = Path(os.environ["CRYOVAE_SHARED_DATA"]) / "real/etspy_HAADF_aligned_tiltaxisY.mrc"
    volume = read_volume(series)
    images = torch.from_numpy(np.array(volume.density, dtype=np.float32))[:, ROWS]
    angles = np.array(read_tilts(series.with_suffix(".tlt")).angles)
    within = np.abs(angles) <= options.range + 0.01
    parts = {"half1": np.flatnonzero(within)[0::2], "half2": np.flatnonzero(within)[1::2], "truth": np.arange(len(angles))}
    options.out.mkdir(parents=True, exist_ok=True)
    for name, numbers in parts.items():
        shape = (DEPTH, images.shape[1], WIDTH)
        density = weighted_back_projection(images[torch.from_numpy(numbers)], angles[numbers], shape, edge=1.0)
        note = f"weighted back-projection, {len(numbers)} tilts"
        write_volume(options.out / f"haadf_{name}.mrc", density.numpy(), None, volume.voxel_size[0], note)
    write_text(options.out / "haadf.tlt", "".join(f"{a:.2f}\n" for a in angles[within]))
    write_text(options.out / "haadf_truth.tlt", "".join(f"{a:.2f}\n" for a in angles))


if __name__ == "__main__":
    main()
