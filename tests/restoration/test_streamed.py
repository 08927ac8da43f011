"""Restoring by parts: what comes out is what comes out in memory, also after a stop."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cryovae.io.journal import Journal
from cryovae.restoration.restorer import RestoreConfig, Restorer
from cryovae.restoration.streamed import StreamedRestorer, cleared
from cryovae.restoration.sums import Sums
from cryovae.tomogram import Optics

CPU = torch.device("cpu")
# Bytes for so little that a volume of 24 x 36 x 32 has several slabs, and several rows of its spectrum at a time.
LITTLE = 4e5


def _restorer(ladder, config, folder, watch=lambda done, total: None):
    journal = Journal(folder / "journal.json", {"config": repr(config)})
    journal.resume()
    return StreamedRestorer(ladder, 16, config, CPU, folder, journal, LITTLE, watch)


def _bytes(folder: Path) -> dict[str, bytes]:
    return {
        p.name: p.read_bytes() for p in folder.glob("*.f32") if p.stem in ("mean", "std", "sample_0", "mean_half1", "mean_half2")
    }


@pytest.mark.parametrize("kind", ["halves", "raw", "contrast transfer"])
def test_it_agrees_with_restoring_in_memory(small, ladder, tmp_path, kind):
    """To 1e-5 of the standard deviation of the data, with and without halves, calibration and contrast transfer.

    A single sample to 3e-5: the noise that it gets is the root of a difference, in which rounding counts.
    """
    tomogram = small if kind == "halves" else replace(small, halves=None)
    config = RestoreConfig(samples=4, samples_out=3)
    if kind == "raw":
        config = RestoreConfig(samples=2, raw=True, calibrate=False)
    if kind == "contrast transfer":
        tomogram, config = replace(tomogram, optics=Optics((30000.0,))), RestoreConfig(samples=2, samples_out=1)
    one = Restorer(ladder, 16, config)(tomogram)
    two = _restorer(ladder, config, cleared(tmp_path / "parts"))(tomogram)
    pairs = [(one.mean, two.mean), (one.std, two.std), *zip(one.halves or (), two.halves or (), strict=True)]
    assert len(pairs) == (4 if kind == "halves" else 2)
    scale = float(tomogram.density.std())
    for whole, parts in pairs:
        assert float((whole - torch.from_numpy(parts[:])).abs().max()) < 1e-5 * scale
    for whole, parts in zip(one.samples, two.samples, strict=True):
        assert float((whole - torch.from_numpy(parts[:])).abs().max()) < 3e-5 * scale
    assert two.figures == pytest.approx(one.figures, rel=1e-4)
    if one.held_out is not None:
        assert two.held_out["correlation"] == pytest.approx(one.held_out["correlation"], abs=1e-4)


class Stopped(Exception):
    pass


@pytest.mark.slow
def test_stopped_at_any_step_it_goes_on_to_the_same_bytes(small, ladder, tmp_path, monkeypatch):
    config = RestoreConfig(samples=4, samples_out=1, calibrate=False)
    first = cleared(tmp_path / "first")
    told = []
    _restorer(ladder, config, first, lambda done, total: told.append((done, total)))(small)
    expected = _bytes(first)
    assert len(expected) == 5
    assert told[-1][0] == told[-1][1]
    again = cleared(tmp_path / "again")

    def stop(done, total):
        if done == at:
            raise Stopped

    passes = sorted({done for done, _ in told if done})
    # In the middle of the answer, of a pair, and of a half, then between two slabs of the sums.
    for at in (passes[0], passes[len(passes) // 2], passes[-2]):
        with pytest.raises(Stopped):
            _restorer(ladder, config, again, stop)(small)
        if at == passes[0]:
            _stop_in_the_sums(monkeypatch, ladder, config, again, small)
    _restorer(ladder, config, again)(small)
    assert _bytes(again) == expected


def _stop_in_the_sums(monkeypatch, ladder, config, folder, tomogram):
    add, count = Sums.add, []

    def adding(self, pair, plus, minus):
        add(self, pair, plus, minus)
        count.append(pair)
        if pair == 1 and count.count(1) == 2:
            raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(Sums, "add", adding)
        with pytest.raises(Stopped):
            _restorer(ladder, config, folder)(tomogram)
