"""A pretrained ladder suited to tomograms: conditioned on their traits, its channels are scaled and shifted once and for all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cryovae.data.prepare import PreparedTomogram
from cryovae.errors import InputError
from cryovae.io.stored import released
from cryovae.models.ladder import Ladder
from cryovae.physics.noise import HALVES
from cryovae.physics.traits import TRAITS, traits_of, without_noise
from cryovae.tiling.grid import PatchGrid, Position, cut

# Sides of the patches from which traits are measured, in voxels: the first of which the tomogram holds any. Their number at most.
SIDES, MOST = (40, 32, 24, 16), 64
# Variance of a patch, relative to that of the patches that show much, above which it holds gold or the edge of a carbon film, and
# does not count. Those that show much are three quarters up, because most of a tomogram may be vacuum.
UNLIKE, MUCH = 3.0, 0.75


def suited(ladder: Ladder, tomograms: Sequence[PreparedTomogram]) -> Ladder:
    """The ladder conditioned on the mean traits of tomograms, binned ones left out; one that takes none as it is.

    Raises:
        InputError: the ladder takes other traits than this version measures.
    """
    if ladder.film is None:
        return ladder
    if ladder.film.traits != TRAITS:
        raise InputError(
            f"a model that takes {ladder.film.traits} traits of a tomogram found, expected {TRAITS}: give one of this version"
        )
    sized = [one for one in tomograms if not one.binned]
    traits = torch.stack([traits_of_tomogram(one) for one in sized])
    if not all(_has_noise(one) for one in sized):
        # Half known is what no training has shown.
        traits = without_noise(traits)
    return ladder.conditioned(traits.mean(0))


def traits_of_tomogram(prepared: PreparedTomogram) -> Tensor:
    """The traits of a tomogram, from patches all over its specimen without gold. They do not depend on what is held out."""
    places, side = _places(prepared)
    kept = np.unique(np.linspace(0, len(places) - 1, MOST).round().astype(int))
    patches = torch.stack([_patch(prepared, places[index], side) for index in kept])
    released(prepared.density)
    variance = patches.var((-3, -2, -1))
    patches = patches[variance <= UNLIKE * variance.quantile(MUCH)]
    return traits_of(patches, prepared.tilts, prepared.noise if _has_noise(prepared) else None)


def _has_noise(prepared: PreparedTomogram) -> bool:
    """Whether the noise was measured. Without halves it is only an upper bound, so it counts as unknown."""
    return prepared.noise.method == HALVES


def _places(prepared: PreparedTomogram) -> tuple[list[Position], int]:
    """First voxels of patches inside the mask and without fill, or with as little of it as possible; and their side."""
    z, y, x = prepared.density.shape
    if prepared.region is not None:
        for side in SIDES:
            try:
                positions = prepared.region.positions(side).tolist()
            except InputError:
                continue
            return [(int(a), int(b), int(c)) for a, b, c in positions], side
    side = SIDES[0]
    # A last tile that extends past the volume is moved inside.
    last = [max(size - side, 0) for size in (z, y, x)]
    return [(min(a, last[0]), min(b, last[1]), min(c, last[2])) for a, b, c in PatchGrid((z, y, x), side, side)], side


def _patch(prepared: PreparedTomogram, place: Position, side: int) -> Tensor:
    """A patch whose voxels of fill are 0, with the power of a full one."""
    patch = cut(prepared.density, place, side)
    if prepared.region is None or prepared.region.fill is None:
        return patch
    valid = prepared.region.inside(place, side)
    share = float(valid.mean())
    if not 0 < share < 1:
        return patch
    return (patch - float((patch * valid).sum() / valid.sum())) * valid / share**0.5
