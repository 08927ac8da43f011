"""Boxes of a volume in a file, blended layer by layer, are those of a volume in memory."""

import numpy as np
import pytest
import torch

from cryovae.io.stored import Stored
from cryovae.tiling.boxes import Boxes
from cryovae.tiling.grid import cut
from cryovae.tiling.streaming import Layers


@pytest.mark.parametrize("shape", [(50, 33, 41), (16, 24, 40), (10, 37, 12), (70, 17, 66)])
@pytest.mark.parametrize(("most", "overlap"), [(16, 8), (24, 8), (32, 16)])
def test_layers_blend_as_in_memory_and_resume_after_any_layer(tmp_path, shape, most, overlap):
    """Two outputs, of boxes that differ from one place to the next; broken off after the first layer, and gone on with."""
    density = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    padded = tuple(-(-size // 8) * 8 for size in shape)
    boxes = Boxes(padded, most, overlap, 8)

    def work(box, position):
        factor = 1.0 + sum(position) / 100
        return torch.stack((box * factor, -box))

    expected = torch.zeros(2, *(start[-1] + side for start, side in zip(map(boxes.starts, range(3)), boxes.sides, strict=True)))
    for position in boxes:
        z, y, x = (slice(start, start + side) for start, side in zip(position, boxes.sides, strict=True))
        expected[:, z, y, x] += work(cut(density, position, boxes.sides), position) * boxes.window(position)
    outputs = [Stored(tmp_path / f"{i}", shape, fresh=True) for i in range(2)]

    class Stopped(Exception):
        pass

    def stop(layer, count):
        raise Stopped

    def layers():
        return Layers(boxes, density, outputs, tmp_path / "between")

    with pytest.raises(Stopped):
        layers().run(work, 0, stop)
    layers().run(work, 1, lambda layer, count: None)
    for output, sums in zip(outputs, expected, strict=True):
        z, y, x = shape
        assert np.abs(output[:] - sums[:z, :y, :x].numpy()).max() < 1e-5
