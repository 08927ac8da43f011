"""Specimens in files: the same values, mapped and not copied, and no trace afterwards."""

from collections import Counter
from contextlib import suppress
from dataclasses import replace

import torch

from cryovae.data.measurement import MaskingConfig
from cryovae.data.memmap import offload_folder, offloaded, to_memmap
from cryovae.data.prepare import prepare
from cryovae.data.sampling import draw, step_generator

SIDE = 16


def test_a_tensor_in_a_file_is_mapped_from_it(tmp_path):
    values = torch.randn(3, 5, 4)
    mapped = to_memmap(values, tmp_path / "a/values.f32")
    assert torch.equal(mapped, values)
    with (tmp_path / "a/values.f32").open("r+b") as file:
        file.write(b"\0" * 4 * 20)
    assert torch.equal(mapped[0], torch.zeros(5, 4))
    assert torch.equal(mapped[1:], values[1:])


def test_batches_from_files_are_those_from_memory(small, tmp_path):
    config = MaskingConfig(rotated_fraction=0.5)
    prepared = prepare(small, SIDE, masking=config)
    in_files = offloaded(prepared, tmp_path)
    assert in_files.filled is in_files.density
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) >= 4 * prepared.density.numel()
    for step in range(4):
        first, second = (draw([s], SIDE, 2, config, step_generator(0, step)) for s in (prepared, in_files))
        for name, value in vars(first).items():
            assert value is getattr(second, name) is None or torch.equal(value, getattr(second, name)), name


def test_the_files_are_gone_afterwards_whatever_happened(tmp_path):
    (tmp_path / "files").mkdir()
    (tmp_path / "files/left_over").write_text("of a run that was killed")
    with suppress(RuntimeError), offload_folder(tmp_path / "files") as place:
        assert list(place.iterdir()) == []
        to_memmap(torch.ones(3), place / "0/a.f32")
        raise RuntimeError
    assert not (tmp_path / "files").exists()


def test_each_tomogram_is_drawn_equally_often(small, monkeypatch):
    """Whatever its size: 600 batches of 3 tomograms are 200 of each, and four standard deviations are 46."""
    prepared = prepare(small, SIDE, held_out=False)
    shapes = ((24, 36, 32), (16, 16, 16), (40, 20, 60))
    several = [replace(prepared, name=str(shape), density=torch.zeros(shape), filled=torch.zeros(shape)) for shape in shapes]
    seen = Counter()

    def counted(drawn, side, generator):
        seen[drawn.name] += 1
        return 0, 0, 0

    monkeypatch.setattr("cryovae.data.sampling.drawn_position", counted)
    for step in range(600):
        draw(several, SIDE, 1, MaskingConfig(rotated_fraction=0.0), step_generator(1, step))
    assert len(seen) == 3
    assert all(abs(count - 200) < 46 for count in seen.values())
