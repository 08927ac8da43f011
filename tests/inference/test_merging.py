import numpy as np
import pytest
import torch

from cryovae import fourier
from cryovae.inference.merging import Merging, found_merging, narrowed
from cryovae.inference.spread import SHELLS, Spread
from cryovae.objectives.binning import halved
from cryovae.objectives.specimen import prepare
from cryovae.physics.wedge import volume_mask
from cryovae.tomogram import TiltGeometry, Tomogram

SHAPE = (64, 72, 80)
# Cycles per voxel below which the binned volume knows, in these tests.
BORDER = 0.1


def truth(seed: int = 0) -> torch.Tensor:
    """Noise of a falling spectrum: something in every bin."""
    rng = torch.Generator().manual_seed(seed)
    return fourier.filtered(torch.randn(SHAPE, generator=rng), 1 / (0.05 + fourier.radius(SHAPE)))


def test_the_mixture_takes_from_each_size_what_it_knows(tilts):
    """Two answers, each right on one side of a border and noise on the other, become one that is right on both."""
    known = truth()
    mask = volume_mask(SHAPE, tilts)
    data = fourier.filtered(known, mask)
    tomogram = Tomogram("t", data.numpy(), 10.0, tilts)
    specimens = [prepare(t, 16, held_out=False) for t in (tomogram, halved(tomogram))]
    wrong = truth(7)

    class Knowing:
        """At full size the truth above the border, at half the size below it."""

        def answered(self, given: torch.Tensor, seen: TiltGeometry) -> torch.Tensor:
            assert seen == narrowed(tilts)
            assert float(volume_power(given, tilts, seen)) < 1e-6
            size = 0 if given.shape == SHAPE else 1
            specimen = specimens[size]
            radius = fourier.radius(given.shape) / (2 if size else 1)
            right = ((radius > BORDER) if size == 0 else (radius < BORDER)).float()
            grey = known if size == 0 else torch.from_numpy(halved_of(known).density)
            other = wrong if size == 0 else torch.from_numpy(halved_of(wrong).density)
            found = fourier.filtered(grey, right) + fourier.filtered(other, 1 - right)
            return (found - specimen.mean) / specimen.scale

    merge = found_merging(specimens, Knowing())
    weight = merge.tables[0]
    frequency = Spread.frequency()
    assert float(weight[(frequency > 0.03) & (frequency < BORDER - 0.04)].min()) > 0.8
    assert float(weight[(frequency > BORDER + 0.04) & (frequency < 0.22)].max()) < 0.2
    assert float(weight[frequency > 0.25].max()) < 0.01


def halved_of(density: torch.Tensor) -> Tomogram:
    return halved(Tomogram("t", density.numpy(), 10.0, TiltGeometry.from_range(-60, 60)))


def volume_power(given: torch.Tensor, tilts: TiltGeometry, seen: TiltGeometry) -> torch.Tensor:
    """Power of what was given in the bins of the tilts taken away, over all power."""
    taken = (volume_mask(given.shape, tilts) > 0.99) & (volume_mask(given.shape, seen) < 1e-6)
    power = fourier.transform(given).abs().square()
    return power[taken].sum() / power.sum()


def test_measured_bins_stay_those_of_the_full_size(tilts):
    fine, coarse = truth(1), torch.from_numpy(halved_of(truth(2)).density)
    merged = Merging((torch.ones(SHELLS),), tilts)([fine, coarse])
    mask = volume_mask(SHAPE, tilts)
    before, after = fourier.transform(fine), fourier.transform(merged)
    assert torch.allclose(before[mask == 1], after[mask == 1], atol=1e-3)
    unseen = (mask == 0) & (fourier.radius(SHAPE) < 0.2)
    assert torch.allclose(after[unseen], fourier.transform(truth(2))[unseen], atol=1e-2)
    nothing = Merging((torch.zeros(SHELLS),), tilts)([fine, coarse])
    assert torch.allclose(nothing, fine, atol=1e-4)


def test_one_size_alone_is_left_as_it_is(tilts):
    density = truth(3)
    assert torch.equal(Merging((), tilts)([density]), density)


@pytest.mark.parametrize(
    "tilts",
    [
        TiltGeometry.from_range(-60, 60),
        TiltGeometry(tuple(range(-48, 67, 3)), weights=tuple(np.linspace(1, 2, 39))),
        TiltGeometry((-60.0, 0.0, 60.0)),
        TiltGeometry.from_range(-60, 60).__class__((-60.0, 60.0), second=TiltGeometry((-50.0, 50.0), axis_angle=90.0)),
    ],
)
def test_narrowed_tilts_are_the_middle_two_thirds(tilts):
    found = narrowed(tilts)
    span = tilts.highest - tilts.lowest
    assert 0.6 * span < found.highest - found.lowest <= 2 / 3 * span + 1e-6
    assert (found.highest + found.lowest) / 2 == pytest.approx((tilts.highest + tilts.lowest) / 2, abs=2)
    assert found.weights is None or len(found.weights) == len(found.angles)
    assert (found.second is None) == (tilts.second is None)
