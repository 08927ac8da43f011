"""The README's picture: one slice of a tomogram before, after, and the standard deviation.

    bash pipelines/quickstart.sh && .venv/bin/python pipelines/readme_picture.py

The slice is the middle xz plane, in which the missing wedge shows. Input and restored mean have a grey scale each: at the scale
of the noise the restored tomogram would be flat.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from cryovae.io.files import read_volume
from cryovae.io.volume import voxel_size_of
from cryovae.report.figure import PlainFigure
from cryovae.report.pictures import save_figure
from cryovae.report.slices import draw_slice, middle_slices

PLANE = "xz"
# Percentiles of a slice that are black and white.
SHOWN = (0.5, 99.5)


def main() -> None:
    """Draw the picture of a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mean", type=Path, default=Path("restored/quickstart/sample_mean.mrc"), help="NAME_mean.mrc of a run")
    halves = [Path(f"data_samples/sample_half{number}.mrc") for number in (1, 2)]
    parser.add_argument("--input", type=Path, nargs="+", default=halves, help="what was restored: one volume, or two halves")
    parser.add_argument("--out", type=Path, default=Path("docs/pictures/before_after.png"))
    options = parser.parse_args()
    std = options.mean.with_name(options.mean.name.replace("_mean", "_std"))
    mean = read_volume(options.mean)
    before = np.mean([read_volume(path).density for path in options.input], axis=0)
    panels = [
        ("before: noise, a missing wedge", before, "gray"),
        ("after: the posterior mean", mean.density, "gray"),
        ("standard deviation (bright: unsure)", read_volume(std).density, "viridis"),
    ]
    figure = PlainFigure(figsize=(12.4, 3.9), layout="constrained")
    for axis, (title, density, colours) in zip(figure.subplots(1, 3), panels, strict=True):
        pixels = middle_slices(np.asarray(density, np.float32))[PLANE]
        low, high = np.percentile(pixels, SHOWN)
        picture = draw_slice(axis, pixels, PLANE, voxel_size_of(mean, None) / 10, colours, (float(low), float(high)))
        axis.set_title(title)
        figure.colorbar(picture, ax=axis, shrink=0.85, label="grey values")
    save_figure(options.out, figure)
    print(options.out)


if __name__ == "__main__":
    main()
