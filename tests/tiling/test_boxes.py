"""Large boxes over a volume: they cover it, their windows sum to one, and their borders have no weight."""

from itertools import pairwise

import pytest
import torch

from cryovae.tiling.boxes import Boxes

LAYOUTS = [((88, 120, 112), 192, 32, 8), ((200, 64, 416), 96, 32, 8), ((56, 40, 24), 24, 8, 8), ((48, 24, 40), 16, 0, 4)]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("step", [1, 4])
def test_windows_sum_to_one(layout, step):
    boxes = Boxes(*layout)
    total = torch.zeros([size // step for size in boxes.shape])
    for position in boxes:
        z, y, x = (slice(start // step, (start + side) // step) for start, side in zip(position, boxes.sides, strict=True))
        total[z, y, x] += boxes.window(position, step)
    torch.testing.assert_close(total, torch.ones_like(total))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_boxes_are_no_longer_than_they_may_be_overlap_and_lie_on_the_unit(layout):
    boxes = Boxes(*layout)
    assert len(boxes) == len(list(boxes))
    for axis in range(3):
        starts, side = boxes.starts(axis), boxes.sides[axis]
        assert side <= boxes.most
        assert starts[0] == 0
        assert starts[-1] + side == boxes.shape[axis]
        assert all(first + side - second >= boxes.overlap for first, second in pairwise(starts))
        assert all(start % boxes.unit == 0 for start in [*starts, side])


def test_a_volume_of_one_box_has_no_seams():
    boxes = Boxes((24, 40, 16), 40, 16, 8)
    assert list(boxes) == [(0, 0, 0)]
    assert bool((boxes.window((0, 0, 0)) == 1).all())


def test_the_quarter_of_an_overlap_at_the_border_of_a_box_has_no_weight():
    boxes = Boxes((16, 16, 160), 96, 32, 8)
    first, second = boxes
    assert first[2] + boxes.sides[2] - second[2] == 32
    weights = boxes.window(second)[0, 0]
    assert bool((weights[:8] == 0).all())
    assert 0 < float(weights[8]) < 0.01
    assert bool((weights[24:] == 1).all())


@pytest.mark.parametrize(("shape", "most", "overlap"), [((20, 16, 16), 32, 8), ((16, 16, 16), 8, 8)])
def test_what_does_not_fit_together_is_refused(shape, most, overlap):
    with pytest.raises(ValueError, match="expected"):
        Boxes(shape, most, overlap, 8)
