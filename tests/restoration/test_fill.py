"""A tomogram with constant regions is restored where it has data, as it is without them; the regions stay as they were."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cryovae.io.fill import with_fill
from cryovae.io.journal import Journal
from cryovae.models.unet import UNet
from cryovae.restoration.config import RestoreConfig
from cryovae.restoration.file_storage import FileStorage
from cryovae.restoration.networks import restore_by_network
from cryovae.restoration.restorer import Restorer
from cryovae.tomogram import Optics

SIDE = 16


def _outside(shape, share):
    """True in the corners around a rotated square of the plane (y, x), and the depth inside it."""
    y, x = np.mgrid[: shape[1], : shape[2]]
    y, x = y - (shape[1] - 1) / 2, x - (shape[2] - 1) / 2
    along, across = np.abs(y * 0.96 + x * 0.28), np.abs(x * 0.96 - y * 0.28)
    depth = np.minimum(share * shape[1] / 2 - along, share * shape[2] / 2 - across)
    return depth < 0, depth


def _cornered(tomogram, share=0.9, values=(3.0, -2.0)):
    outside, depth = _outside(tomogram.shape, share)
    halves = tomogram.halves
    if halves is not None:
        halves = tuple(np.where(outside, v, h).astype(np.float32) for v, h in zip(values, halves, strict=True))
    density = np.where(outside, values[0], tomogram.density).astype(np.float32)
    density = density if halves is None else (halves[0] + halves[1]) / 2
    return with_fill(replace(tomogram, density=density, halves=halves)), outside, depth


@pytest.mark.parametrize("halves", [True, False])
def test_inside_rotated_corners_the_restoration_is_the_same(tomogram, ladder, halves):
    """Mean and standard deviation within 2 % of the standard deviation, half a patch from the border on.

    The calibration is left out: its few held-out patches lie in other places, and that is all it would compare.
    """
    tomogram = tomogram if halves else replace(tomogram, halves=None)
    cornered, outside, depth = _cornered(tomogram, 1.0)
    assert outside.mean() > 0.1
    # Both on one scale: the tomogram and its part inside differ a little by themselves.
    plain = replace(tomogram, grey=(float(tomogram.density.mean()), float(tomogram.density.std())))
    cornered = replace(cornered, grey=plain.grey)
    config = RestoreConfig(samples=2, samples_out=1, calibrate=False, raw=True, halves=halves)
    one, two = Restorer(ladder, SIDE, config)(plain), Restorer(ladder, SIDE, config)(cornered)
    inner = torch.from_numpy(np.broadcast_to(depth > SIDE, tomogram.shape).copy())
    assert inner.any()
    std = float(one.std[inner].mean())
    # The mean of a box is that of its data, and no data lie in the fill.
    difference = (one.mean - two.mean)[inner]
    assert abs(float(difference.mean())) < 1e-2 * float(tomogram.density.std())
    assert float((difference - difference.mean()).abs().max()) < 0.02 * std
    assert float((one.std - two.std)[inner].abs().max()) < 0.02 * std


@pytest.mark.parametrize("kind", ["halves", "single", "contrast transfer"])
def test_fill_is_kept_in_all_results_in_memory_and_streamed(small, ladder, tmp_path, kind):
    base = small if kind == "halves" else replace(small, halves=None)
    if kind == "contrast transfer":
        base = replace(base, optics=Optics((30000.0,)))
    cornered, outside, _ = _cornered(base, 1.05)
    mask = np.ones(small.shape, bool)
    mask[:, :2] = False
    cornered = replace(cornered, mask=mask)
    config = RestoreConfig(samples=2, samples_out=1)
    one = Restorer(ladder, SIDE, config)(cornered)
    journal = Journal(tmp_path / "journal.json", {})
    journal.resume()
    two = Restorer(ladder, SIDE, config).restore(cornered, FileStorage(tmp_path, small.shape, journal, 4e5))
    scale = float(small.density.std())
    volumes = [
        (one.mean, two.mean, 0.5 if kind == "halves" else 3.0),
        (one.samples[0], two.samples[0], None),
        (one.std, two.std, 0.0),
    ]
    if kind == "halves":
        volumes += [(one.halves[0], two.halves[0], 3.0), (one.halves[1], two.halves[1], -2.0)]
    for memory, stored, value in volumes:
        assert float((memory - torch.from_numpy(stored[:])).abs().max()) < 1e-4 * scale
        assert value is None or np.all(memory.numpy()[:, outside] == value)
        assert np.std(memory.numpy()[:, ~outside]) > 0
    assert two.figures == pytest.approx(one.figures, rel=1e-4)


def test_a_network_keeps_fill(small, small_config):
    torch.manual_seed(0)
    cornered, outside, _ = _cornered(small, 1.05)
    restored = restore_by_network(UNet(small_config), cornered, SIDE, "deepdewedge", torch.device("cpu"))
    for volume, value in (
        (restored.mean, 0.5),
        (restored.consistent, 0.5),
        (restored.halves[0], 3.0),
        (restored.halves[1], -2.0),
    ):
        assert np.all(volume.numpy()[:, outside] == value)
        assert np.isfinite(volume.numpy()).all()
