"""What blending takes from the error of a mean, against the weights of tiles that overlap by half."""

import pytest
import torch

from cryovae.calibration.blending import tile_disagreement, window
from cryovae.calibration.hidden_bins import smeared
from cryovae.calibration.variance import BINS, COUNT, MISFIT, MODEL, SHELLS, XX, blended_measured_sums, blended_wedge_sums
from cryovae.posterior.tiles import TilePredictor
from cryovae.tiling.grid import PatchGrid
from tests.helpers.calibration import SIDE, Shrinking, prepared_white

MIDDLE = slice(3, 18)
# Of independent tiles, averaged with weights of sin^2, three quarters of the variance are left along an axis; along z, where the
# tile begins at the face of the volume, its first half stands alone.
LEFT = 0.75**2 * (0.75 + 1) / 2


class Guessing(Shrinking):
    """Predicts each tile, in each orientation, with noise of its own."""

    def restore(self, features, noise):
        # A tile is known by what is in it, give or take rounding.
        seeds = [round(float(tile.double().abs().sum())) for tile in features[0]]
        own = [torch.randn(features[0].shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return self.gain * torch.stack(own)


def test_the_window_is_the_root_of_the_weights_of_tiles():
    grid = PatchGrid((40, 40, 40), 40, 20)
    profile = window(40)[20, 20].square()
    assert torch.allclose(profile / profile.max(), grid.window() / grid.window().max(), atol=2e-3)
    assert torch.allclose((profile / profile.max())[:20] + (profile / profile.max())[20:], torch.ones(20), atol=0.01)


def test_tiles_that_guess_are_better_for_being_blended(tilts):
    """Four orientations, each with noise of its own, then four tiles to a voxel, and more."""
    prepared, _, _ = prepared_white(tilts)
    predictor = TilePredictor(Guessing(0.6, 0.0), SIDE, 2, 0, torch.device("cpu"), lambda tiles: None)
    wedge, measured = tile_disagreement(predictor, prepared, prepared.density, (0, 40, 40))
    expected = 0.6**2 / 4 * (1 - LEFT) / float(prepared.noise.table.mean())
    assert float(measured[MIDDLE].mean()) == pytest.approx(expected, rel=0.12)
    assert float(wedge[MIDDLE].mean()) == pytest.approx(expected, rel=0.2)


def test_tiles_that_agree_gain_nothing(tilts):
    """Tiles shrink what they see by as much, up to what their faces smear into the wedge; those that guess do not agree."""
    prepared, _, _ = prepared_white(tilts)
    disagreements = []
    for model, noise in ((Shrinking(0.6, 0.0), 1.0), (Shrinking(0.6, 0.0), 2.0), (Guessing(0.6, 0.0), 1.0)):
        predictor = TilePredictor(model, SIDE, 2, 0, torch.device("cpu"), lambda tiles: None)
        both = tile_disagreement(predictor, prepared, prepared.density, (20, 40, 40), noise)
        disagreements.append([float(part[MIDDLE].mean()) for part in both])
    agreeing, against_more_noise, guessing = disagreements
    assert all(0 < one < 0.1 * other for one, other in zip(agreeing, guessing, strict=True))
    assert against_more_noise == pytest.approx([one / 2 for one in agreeing], rel=1e-4)


def test_sums_become_those_of_the_blended_mean():
    """A mean is the truth and an error of its tile; blending leaves less of that error, in power and in misfit."""
    bins, truth, error, noise = 1000.0, 4.0, 2.0, 1.0
    less = torch.full((SHELLS,), 1.5, dtype=torch.float64)
    sums = torch.zeros(6, SHELLS, dtype=torch.float64)
    sums[BINS], sums[MODEL], sums[MISFIT] = bins, bins * (truth + error), bins * (error + noise)
    blended = blended_wedge_sums(sums, less)
    assert torch.allclose(blended[MODEL], sums[MODEL] - 1.5 * bins)
    assert torch.allclose(blended[MISFIT], sums[MISFIT] - 1.5 * bins)
    measured = torch.zeros(8, SHELLS, dtype=torch.float64)
    measured[COUNT], measured[0], measured[3], measured[XX] = bins, bins * 5, bins * 3, bins * 4
    # |a - x|^2 is 5 - 6 + 4 a bin; of that no more than MAX_REMOVED_SHARE is taken.
    assert torch.allclose(blended_measured_sums(measured, less)[XX], measured[XX] - 1.5 * bins)


def test_noise_seen_through_a_window_keeps_its_power():
    support = window(12)
    spectrum = torch.full((12, 12, 7), 3.0)
    assert torch.allclose(smeared(spectrum, support), torch.full_like(spectrum, 3.0) * support.square().mean(), rtol=1e-4)
