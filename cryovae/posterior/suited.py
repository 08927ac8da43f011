"""A pretrained ladder suited to tomograms: conditioned on their traits, its channels are scaled and shifted once and for all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cryovae.data.prepare import PreparedTomogram
from cryovae.models.ladder import Ladder
from cryovae.physics.noise import HALVES
from cryovae.physics.traits import traits_of
from cryovae.tiling.grid import PatchGrid, cut

# Side of the patches from which traits are measured, in voxels, and their number at most.
SIDE, MOST = 40, 64
# Variance of a patch, relative to the median patch, above which it holds gold or the edge of a carbon film, and does not count.
UNLIKE = 3.0


def suited(ladder: Ladder, tomograms: Sequence[PreparedTomogram]) -> Ladder:
    """The ladder conditioned on the mean traits of tomograms, binned ones left out; one that takes none as it is."""
    if ladder.film is None:
        return ladder
    traits = [traits_of_tomogram(one) for one in tomograms if not one.binned]
    return ladder.conditioned(torch.stack(traits).mean(0))


def traits_of_tomogram(prepared: PreparedTomogram) -> Tensor:
    """The traits of a tomogram, from patches all over it without fill or gold. They do not depend on what is held out."""
    z, y, x = prepared.density.shape
    # A last tile that extends past the volume is moved inside.
    last = [max(size - SIDE, 0) for size in (z, y, x)]
    places = [(min(a, last[0]), min(b, last[1]), min(c, last[2])) for a, b, c in PatchGrid((z, y, x), SIDE, SIDE)]
    if prepared.region is not None:
        places = [place for place in places if prepared.region.allows(place, SIDE)] or places
    kept = np.unique(np.linspace(0, len(places) - 1, MOST).round().astype(int))
    patches = torch.stack([cut(prepared.density, places[index], SIDE) for index in kept])
    variance = patches.var((-3, -2, -1))
    patches = patches[variance <= UNLIKE * variance.median()]
    # Without halves the noise is only an upper bound, so it counts as unknown.
    noise = prepared.noise if prepared.noise.method == HALVES else None
    return traits_of(patches, prepared.tilts, noise)
