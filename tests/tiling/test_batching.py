"""Batches that are halved when memory runs out."""

import pytest
import torch

from cryovae.tiling.batching import Batches, lacks_memory

CPU = RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes")


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), CPU, MemoryError()])
def test_a_batch_too_large_is_halved_and_nothing_is_done_twice(error, caplog):
    sizes = []

    def work(part):
        sizes.append(len(part))
        if len(part) > 2:
            raise error
        return [2 * item for item in part]

    batches = Batches(8)
    with caplog.at_level("WARNING", logger="cryovae"):
        pairs = [pair for part, made in batches.over(range(7), work) for pair in zip(part, made, strict=True)]
    assert pairs == [(i, 2 * i) for i in range(7)]
    assert sizes[0] == 7
    assert all(size <= 2 for size in sizes[2:])
    assert batches.size <= 2
    assert "going on with" in caplog.text


def test_one_tile_too_large_is_an_error_and_other_errors_pass():
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
