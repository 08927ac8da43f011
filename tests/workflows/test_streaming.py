"""How a budget of memory is divided when a tomogram is streamed, and what a refill of training may take."""

from dataclasses import replace

import pytest
import torch

from cryovae.checkpoint import Checkpoint
from cryovae.config import preset
from cryovae.data.prepare import prepare
from cryovae.errors import InputError
from cryovae.models.ladder import Ladder
from cryovae.posterior import ladder_boxes
from cryovae.posterior.ladder_boxes import LadderBoxes
from cryovae.posterior.posterior_tiles import HELD
from cryovae.posterior.tile_memory import bytes_of_voxel
from cryovae.restoration.restorer import refilled
from cryovae.workflows import memory
from cryovae.workflows.streaming import MIN_SLAB_BYTES, ROW_BYTES, calibration_bytes, room_within

CPU = torch.device("cpu")

pytestmark = pytest.mark.usefixtures("fresh_program")


@pytest.fixture(scope="module")
def quick():
    config = preset("quick")
    return Checkpoint(Ladder(config.ladder), config.training.patch, 0, 0, {}), config.restoration


@pytest.mark.parametrize("budget", [2e9, 4e9, 16e9])
@pytest.mark.parametrize("columns", [200, 1024, 4096])
def test_slabs_rows_and_a_box_keep_within_the_budget(quick, budget, columns):
    checkpoint, config = quick
    room, box, voxels = room_within(int(budget), checkpoint, config, CPU, columns)
    taken = memory.resident()
    rows = ROW_BYTES * box ** (2 / 3) * columns
    assert room >= MIN_SLAB_BYTES
    assert taken + room + bytes_of_voxel(checkpoint.ladder.config) * box <= budget
    assert taken + MIN_SLAB_BYTES + bytes_of_voxel(checkpoint.ladder.config) * box + rows <= budget
    assert taken + calibration_bytes(checkpoint.ladder.config, voxels, config, CPU) <= budget


def test_more_memory_gives_larger_boxes(quick):
    boxes = [room_within(budget, *quick, CPU, 512)[1] for budget in (2 * 10**9, 4 * 10**9, 8 * 10**9, 64 * 10**9)]
    assert sorted(boxes) == boxes
    assert boxes[0] < boxes[-1]


def test_a_budget_that_is_too_small_is_refused_with_what_is_needed(quick):
    with pytest.raises(InputError, match=r"expected at least .*GB for this model"):
        room_within(int(memory.resident()), *quick, CPU, 512)


def test_a_refill_takes_no_more_memory_than_a_batch_of_training(small, ladder, monkeypatch):
    shapes, mean = [], LadderBoxes.mean

    def watched(self, box, *rest):
        shapes.append(box[0].numel())
        return mean(self, box, *rest)

    monkeypatch.setattr(LadderBoxes, "mean", watched)
    prepared = replace(prepare(small, 8), density=torch.zeros(48, 64, 56))
    refilled(ladder, prepared, 8, 0, CPU, batch=2)
    assert len(shapes) > 1
    assert max(shapes) <= HELD * 2 * 8**3
    assert ladder_boxes.largest_box(ladder.config, CPU) > 48 * 64 * 56
