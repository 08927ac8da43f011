"""A restoration in files is the one in memory, also after a stop; filters and noise in files are those in memory."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cryovae import fourier
from cryovae.io.journal import Journal
from cryovae.physics.wedge import volume_mask
from cryovae.posterior import flow_posterior, ladder_boxes
from cryovae.restoration.config import RestoreConfig
from cryovae.restoration.file_storage import BOX_VOXELS, FileStorage
from cryovae.restoration.restorer import Restorer
from cryovae.tomogram import Optics
from tests.helpers.generative import tiny_generator

CPU = torch.device("cpu")
# Bytes for so little that a volume of 24 x 36 x 32 has several slabs, and several rows of its spectrum at a time.
LITTLE = 4e5
# Voxels of a box: the volume has several layers of boxes.
BOX = 4096.0


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _storage(folder, shape, memory, mark=""):
    journal = Journal(folder / "journal.json", {"mark": mark})
    journal.resume()
    return FileStorage(folder, shape, journal, memory)


def _restored(ladder, config, folder, tomogram, watch=lambda done, total: None, box=None):
    storage = _storage(folder, tomogram.shape, LITTLE, repr(config))
    return Restorer(ladder, 16, config, CPU, watch, box=box).restore(tomogram, storage)


def _bytes(folder: Path) -> dict[str, bytes]:
    return {
        p.name: p.read_bytes() for p in folder.glob("*.f32") if p.stem in ("mean", "std", "sample_0", "mean_half1", "mean_half2")
    }


@pytest.mark.parametrize("kind", ["halves", "raw", "contrast transfer"])
def test_streamed_agrees_with_memory(small, ladder, tmp_path, kind):
    """To 3e-5 of the standard deviation of the data, with and without halves, calibration and contrast transfer."""
    tomogram = small if kind == "halves" else replace(small, halves=None)
    config = RestoreConfig(samples=4, samples_out=3)
    if kind == "raw":
        config = RestoreConfig(samples=2, raw=True, calibrate=False)
    if kind == "contrast transfer":
        tomogram, config = replace(tomogram, optics=Optics((30000.0,))), RestoreConfig(samples=2, samples_out=1)
    one = Restorer(ladder, 16, config)(tomogram)
    two = _restored(ladder, config, _folder(tmp_path / "parts"), tomogram)
    pairs = [
        (one.mean, two.mean),
        (one.std, two.std),
        (one.measured, two.measured),
        *zip(one.halves or (), two.halves or (), strict=True),
    ]
    assert len(pairs) == (5 if kind == "halves" else 3)
    scale = float(tomogram.density.std())
    for memory, stored in pairs:
        assert float((memory - torch.from_numpy(stored[:])).abs().max()) < 3e-5 * scale
    for memory, stored in zip(one.samples, two.samples, strict=True):
        assert float((memory - torch.from_numpy(stored[:])).abs().max()) < 3e-5 * scale
    assert two.figures == pytest.approx(one.figures, rel=1e-4)
    assert (one.held_out is None, two.held_out is None) == (kind == "raw",) * 2
    if kind != "raw":
        assert one.held_out["correlation"] is not None
        assert two.held_out["correlation"] == pytest.approx(one.held_out["correlation"], abs=1e-4)


def test_streamed_in_several_boxes_agrees_with_memory_in_the_same_boxes(small, ladder, tmp_path):
    config = RestoreConfig(samples=2, samples_out=1, sampler="amortised")
    one = Restorer(ladder, 16, config, box=BOX)(small)
    two = _restored(ladder, config, _folder(tmp_path / "parts"), small, box=BOX)
    scale = float(small.density.std())
    for memory, stored in ((one.mean, two.mean), (one.std, two.std), (one.samples[0], two.samples[0])):
        assert float((memory - torch.from_numpy(stored[:])).abs().max()) < 3e-5 * scale
    one_pass = Restorer(ladder, 16, config)(small)
    assert float((one.mean - one_pass.mean).abs().max()) > 1e-3 * scale


def test_where_memory_runs_out_the_next_pass_has_smaller_boxes_also_when_resumed(small, ladder, tmp_path, monkeypatch):
    """The journal keeps the size, and the work is counted by the boxes that there are."""
    config = RestoreConfig(samples=2, samples_out=0, sampler="amortised", calibrate=False, halves=False)
    mean, shapes = ladder_boxes.LadderBoxes.mean, []

    def scarce(self, box, *rest):
        if box[0].numel() > BOX:
            raise MemoryError
        shapes.append(tuple(box.shape[1:]))
        return mean(self, box, *rest)

    monkeypatch.setattr(ladder_boxes.LadderBoxes, "mean", scarce)
    storage = _storage(_folder(tmp_path / "parts"), small.shape, LITTLE)
    Restorer(ladder, 16, config, box=1e9).restore(small, storage)
    assert shapes
    assert max(np.prod(shape) for shape in shapes) <= BOX
    assert _storage(tmp_path / "parts", small.shape, LITTLE).journal.values[BOX_VOXELS] <= BOX


@pytest.mark.parametrize("sampler", ["flow", "langevin"])
def test_the_flow_streamed_agrees_with_memory(small, ladder, tmp_path, monkeypatch, sampler):
    """To 1e-3 of the standard deviation: conditions are in half precision, and the estimate is made tile by tile in files."""
    monkeypatch.setattr(flow_posterior, "MOST", 16)
    # One way to estimate for both.
    monkeypatch.setattr(ladder_boxes, "LARGEST", 0.0)
    flow = tiny_generator().taking_estimates()
    config = RestoreConfig(samples=2, samples_out=1, sampler=sampler, flow_steps=2, chain=4)
    one = Restorer(ladder, 16, config, CPU, flow=flow)(small)
    reports = []
    storage = _storage(_folder(tmp_path / "parts"), small.shape, LITTLE)
    watched = Restorer(ladder, 16, config, CPU, lambda done, total: reports.append((done, total)), flow)
    two = watched.restore(small, storage)
    scale = float(small.density.std())
    for memory, stored in (
        (one.mean, two.mean),
        (one.std, two.std),
        (one.samples[0], two.samples[0]),
        (one.halves[0], two.halves[0]),
    ):
        assert float((memory - torch.from_numpy(stored[:])).abs().max()) < 1e-3 * scale
    assert two.search["sampler"] == sampler
    assert two.held_out["correlation"] == pytest.approx(one.held_out["correlation"], abs=1e-4)
    again = Restorer(ladder, 16, config, CPU, flow=flow).restore(small, _storage(tmp_path / "parts", small.shape, LITTLE))
    assert np.array_equal(again.mean[:], two.mean[:])
    assert again.search == two.search
    assert ("langevin" in two.search) == (sampler == "langevin")


class Stopped(Exception):
    pass


@pytest.mark.slow
def test_stopped_at_any_step_it_goes_on_to_the_same_bytes(small, ladder, tmp_path, monkeypatch):
    config = RestoreConfig(samples=4, samples_out=1, calibrate=False)
    first = _folder(tmp_path / "first")
    reports = []
    _restored(ladder, config, first, small, lambda done, total: reports.append((done, total)), BOX)
    expected = _bytes(first)
    assert len(expected) == 5
    assert reports[-1][0] == reports[-1][1]
    again = _folder(tmp_path / "again")

    def stop(done, total):
        if done == at:
            raise Stopped

    passes = sorted({done for done, _ in reports if done})
    # In the middle of the mean and of a pair, then between two slabs of the sums, then in the middle of each half.
    for at in (passes[0], passes[2], passes[len(passes) // 2 + 1], passes[-2]):
        with pytest.raises(Stopped):
            _restored(ladder, config, again, small, stop, BOX)
        if at == passes[2]:
            _stop_in_the_sums(monkeypatch, ladder, config, again, small)
    _restored(ladder, config, again, small, box=BOX)
    assert _bytes(again) == expected


def _stop_in_the_sums(monkeypatch, ladder, config, folder, tomogram):
    keep, count = FileStorage.keep_moments, []

    def keeping(self, slab, moments):
        keep(self, slab, moments)
        count.append(moments.pairs)
        if count.count(2) == 2:
            raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(FileStorage, "keep_moments", keeping)
        with pytest.raises(Stopped):
            _restored(ladder, config, folder, tomogram, box=BOX)


@pytest.mark.parametrize(("shape", "memory"), [((12, 9, 14), 1), ((7, 16, 11), 20_000), ((10, 8, 6), 1e9)])
def test_a_filter_over_files_is_the_one_in_memory(tmp_path, tilts, shape, memory):
    density = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    storage = _storage(tmp_path, shape, memory)
    weight = volume_mask(shape, tilts) * (1 + fourier.frequencies(shape)[1])
    parts = storage.filtered([storage.read_array(density.numpy())], lambda rows: [weight[:, rows]])
    storage.write("filtered", (part for (part,) in parts))
    assert np.abs(storage.volume("filtered")[:] - fourier.filtered(density, weight).numpy()).max() < 2e-6


def test_a_finished_step_is_not_run_again(tmp_path):
    assert _storage(tmp_path, (4, 4, 4), 1e9).once("step", lambda: 1) == 1
    assert _storage(tmp_path, (4, 4, 4), 1e9).once("step", lambda: 2) == 1


def test_the_model_keeps_its_own_precision(small, ladder):
    ladder.mixed = True
    Restorer(ladder, 16, RestoreConfig(samples=2, precision="float32", halves=False, calibrate=False))(small)
    assert ladder.mixed
