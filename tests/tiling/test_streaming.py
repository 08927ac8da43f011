"""Tiles of a volume in a file, blended layer by layer, are those of a volume in memory."""

import numpy as np
import pytest
import torch

from cryovae.io.stored import Stored
from cryovae.tiling.batching import Batches
from cryovae.tiling.grid import Blender, PatchGrid, cut
from cryovae.tiling.streaming import Layers


@pytest.mark.parametrize("shape", [(50, 33, 41), (16, 24, 40), (10, 37, 12)])
def test_layers_blend_as_in_memory_and_resume_after_any_layer(tmp_path, shape):
    """Two outputs, of tiles that differ from one place to the next; broken off after the first layer, and gone on with."""
    density = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    grid = PatchGrid(shape, 16, 8)

    def work(tiles, positions):
        factor = torch.tensor([1.0 + sum(position) / 100 for position in positions]).view(-1, 1, 1, 1)
        return torch.stack((tiles * factor, -tiles))

    expected = [Blender(grid), Blender(grid)]
    for position in grid:
        for blender, tile in zip(expected, work(cut(density, position, 16)[None], [position]), strict=True):
            blender.add(position, tile[0])
    outputs = [Stored(tmp_path / f"{i}", shape, fresh=True) for i in range(2)]

    class Stopped(Exception):
        pass

    def stop(layer, tiles):
        raise Stopped

    def layers():
        return Layers(grid, density, outputs, tmp_path / "between", Batches(3), torch.device("cpu"))

    with pytest.raises(Stopped):
        layers().run(work, 0, stop)
    layers().run(work, 1, lambda layer, tiles: None)
    for output, blender in zip(outputs, expected, strict=True):
        assert np.abs(output[:] - blender.blended().numpy()).max() < 1e-5
