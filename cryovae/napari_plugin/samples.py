"""Sample data: the two halves in data_samples, or the same ones simulated if the package was installed without them."""

from __future__ import annotations

from pathlib import Path

import cryovae
from cryovae.napari_plugin.contents import layer_of_file
from cryovae.napari_plugin.layers import LayerTuple, layer_for

FOLDER = Path(cryovae.__file__).parents[1] / "data_samples"
VOXEL_SIZE = 10.0


def open_sample() -> list[LayerTuple]:
    """Two layers: half 1 and half 2 of the simulated tomogram."""
    files = [FOLDER / f"sample_half{number}.mrc" for number in (1, 2)]
    return [layer_of_file(path) for path in files] if all(path.is_file() for path in files) else simulated()


def simulated() -> list[LayerTuple]:
    """The same from the simulator, with the settings in data_samples/README.md, without files."""
    from cryovae.simulation.simulate import SAMPLE, simulate

    simulation = simulate(SAMPLE)
    halves = {"half1": simulation.half1.numpy(), "half2": simulation.half2.numpy()}
    return [
        layer_for(density, role, f"sample_{role}", VOXEL_SIZE, tilts=simulation.tilts.angles) for role, density in halves.items()
    ]
