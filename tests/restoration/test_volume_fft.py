"""Filters and tiles of a volume in files are those of one in memory."""

import numpy as np
import pytest
import torch

from cryovae import fourier
from cryovae.io.stored import Stored
from cryovae.physics.wedge import volume_mask
from cryovae.restoration.volume_fft import Transforms, spectrum_shape
from cryovae.tiling.batching import Batches
from cryovae.tiling.grid import Blender, PatchGrid, cut
from cryovae.tiling.streaming import Layers


@pytest.mark.parametrize(("shape", "memory"), [((12, 9, 14), 1), ((7, 16, 11), 20_000), ((10, 8, 6), 1e9)])
def test_a_filter_over_files_is_the_one_in_memory(tmp_path, tilts, shape, memory):
    density = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    transforms = Transforms(shape, memory)
    spectrum = Stored(tmp_path / "s", spectrum_shape(shape), np.complex64, fresh=True)
    volume = Stored(tmp_path / "v", shape, fresh=True)
    source = transforms.read(density.numpy())
    transforms.filtered(source, lambda k, rows: transforms.mask(k, tilts) * (1 + k[1]), spectrum, volume)
    weight = volume_mask(shape, tilts) * (1 + fourier.frequencies(shape)[1])
    assert np.abs(volume[:] - fourier.filtered(density, weight).numpy()).max() < 2e-6


@pytest.mark.parametrize("shape", [(7, 5, 11), (4, 16, 16), (9, 6, 5)])
def test_white_noise_by_slabs_is_that_of_the_whole_number_by_number(shape):
    parts = list(Transforms(shape, 3 * 48 * shape[1] * shape[2]).white(torch.Generator().manual_seed(4)))
    assert len(parts) > 1
    assert torch.equal(torch.cat(parts), torch.randn(shape, generator=torch.Generator().manual_seed(4)))


@pytest.mark.parametrize("shape", [(50, 33, 41), (16, 24, 40), (10, 37, 12)])
def test_layers_of_tiles_blend_as_a_volume_in_memory_does_and_go_on_after_any_of_them(tmp_path, shape):
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
