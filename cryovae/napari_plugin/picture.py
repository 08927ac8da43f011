"""Pictures of napari's window as small PNG files: 1000 pixels wide and of 256 colours, half of them grey."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cryovae.io.atomic import whole_file

WIDTH, COLOURS = 1000, 256
# The channels of a grey pixel differ by less than this.
GREY = 24


def save_picture(viewer: Any, path: Path, canvas_only: bool = False) -> Path:
    """Save what a viewer shows; returns the file, whose name ends in .png.

    Args:
        viewer: The napari viewer.
        path: The file, replaced if it exists.
        canvas_only: Whether the panels of the window are left out.
    """
    viewer.status = ""
    pixels = viewer.screenshot(canvas_only=canvas_only, flash=False)
    picture = Image.fromarray(pixels[..., :3])
    height = round(picture.height * WIDTH / picture.width)
    small = picture.resize((WIDTH, height), Image.Resampling.LANCZOS)
    file = path.with_suffix(".png")
    with whole_file(file) as beside:
        small.quantize(palette=palette_of(small), dither=Image.Dither.NONE).save(beside, format="PNG", optimize=True)
    return file


def palette_of(picture: Image.Image) -> Image.Image:
    """Half of the colours for grey pixels, half for the others, which are too few to have colours in a common palette."""
    pixels = np.asarray(picture)
    grey = np.ptp(pixels.astype(int), axis=-1) < GREY
    palette: list[int] = []
    for part in (pixels[grey], pixels[~grey]):
        if len(part):
            few = Image.fromarray(part[None]).quantize(COLOURS // 2, dither=Image.Dither.NONE, kmeans=2)
            palette += (few.getpalette() or [])[: 3 * (COLOURS // 2)]
    holder = Image.new("P", (1, 1))
    holder.putpalette(palette)
    return holder
