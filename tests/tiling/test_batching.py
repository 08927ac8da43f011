"""Batches that are halved when memory runs out."""

import pytest
import torch

from cryovae.models.ladder import LadderConfig
from cryovae.tiling.batching import Batches, bytes_of_tile, fitting, lacks_memory

CPU = RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes")


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), CPU, MemoryError()])
def test_a_batch_for_which_memory_runs_out_is_halved_and_nothing_is_done_twice(error, caplog):
    sizes = []

    def work(part):
        sizes.append(len(part))
        if len(part) > 2:
            raise error
        return [2 * item for item in part]

    batches = Batches(8)
    with caplog.at_level("WARNING", logger="cryovae"):
        found = [pair for part, made in batches.over(range(7), work) for pair in zip(part, made, strict=True)]
    assert found == [(i, 2 * i) for i in range(7)]
    assert sizes[0] == 7
    assert all(size <= 2 for size in sizes[2:])
    assert batches.size <= 2
    assert "going on with" in caplog.text


def test_what_one_tile_has_no_memory_for_is_said_and_other_errors_pass():
    def too_much(part):
        raise CPU

    def wrong(part):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="not enough memory"):
        list(Batches(4).over(range(4), too_much))
    batches = Batches(4)
    with pytest.raises(RuntimeError, match="shapes"):
        list(batches.over(range(4), wrong))
    assert batches.size == 4
    assert not lacks_memory(ValueError("not enough memory"))


def test_tiles_at_once_follow_the_memory_that_is_free():
    config = LadderConfig((16, 32), (4, 8), 1)
    one = bytes_of_tile(config, 48)
    assert fitting(config, 48, 8, 3.5 * one) == 3
    assert fitting(config, 48, 8, 0.1 * one) == 1
    assert fitting(config, 48, 8, float("inf")) == 8
