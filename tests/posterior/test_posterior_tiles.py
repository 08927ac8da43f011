"""Posteriors of tiles: an ordinary restoration if nothing is searched, else samples of the searched posterior."""

import pytest
import torch

from cryovae.data.prepare import prepare
from cryovae.errors import InputError
from cryovae.physics.rotation import symmetry_rotations
from cryovae.posterior.ladder_boxes import LadderBoxes
from cryovae.posterior.posterior_tiles import PosteriorTiles
from cryovae.posterior.search import SearchConfig
from cryovae.restoration.config import RestoreConfig
from cryovae.restoration.restorer import Restorer
from cryovae.tiling.grid import Blender, PatchGrid, cut

SIDE = 16


def _posterior_tiles(ladder, small, **settings):
    prepared = prepare(small, SIDE)
    predictor = LadderBoxes(ladder, SIDE, torch.device("cpu"))
    search = SearchConfig(**settings)
    return (
        PosteriorTiles(predictor, search, search.refine, 2).over(prepared.density, prepared.tilts, prepared.noise, 2),
        predictor,
        prepared,
    )


def test_without_a_search_mean_and_samples_are_those_of_the_tiles(ladder, small):
    volumes, predictor, prepared = _posterior_tiles(ladder, small, orientations=2)
    data, tilts = prepared.density, prepared.tilts
    grid = PatchGrid(tuple(data.shape), SIDE, SIDE // 2)
    blenders = [Blender(grid) for _ in range(3)]
    with torch.no_grad():
        for position in grid:
            tile = cut(data, position, SIDE)[None]
            mean = predictor.mean(tile, tilts, symmetry_rotations(tilts)[:2])
            drawn = predictor.sampled(tile, position, tilts, 0)
            for blender, density in zip(blenders, (*mean, *drawn), strict=True):
                blender.add(position, density)
    for mine, blender in zip((volumes.mean, *volumes.samples), blenders, strict=True):
        assert torch.allclose(mine, blender.blended(), atol=1e-4)


@pytest.mark.parametrize(
    "settings",
    [{"refine": 3}, {"sampler": "reweighted", "candidates": 4, "temperature": 3.0}],
)
def test_a_restoration_reports_its_search(ladder, small, settings):
    restored = Restorer(ladder, SIDE, RestoreConfig(samples=2, samples_out=2, orientations=1, halves=False, **settings))(small)
    assert restored.search is not None
    assert torch.isfinite(restored.mean).all()
    assert torch.isfinite(restored.std).all()
    assert all(p.requires_grad for p in ladder.parameters())
    if "refine" in settings:
        assert restored.search["guard"]["steps"][0] == 0
        allowed = restored.search["guard"]["allowed_steps"]
        assert ("refined" in restored.search) == (allowed > 0)
        assert not allowed or restored.search["refined"]["gain_nats_per_coefficient"] > 0
    else:
        assert 1 <= restored.search["effective_sample_size"]["least"] <= 4
        assert restored.search["tempered"]
        return
    assert float(restored.std.min()) > 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"sampler": "hmc"},
        {"refine": -1},
        {"temperature": 2.0},
        {"sampler": "langevin", "temperature": 0.0},
        {"sampler": "langevin", "refine": 2},
        {"chain": 1},
    ],
)
def test_settings_that_make_no_sense_are_one_line(wrong):
    with pytest.raises(InputError, match=r"expected|pass|leave out"):
        RestoreConfig(**wrong)
