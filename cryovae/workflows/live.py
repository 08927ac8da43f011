"""A look at training while it goes on: the middle of the tomogram, answered by the averaged model of that moment, as live.mrc.

It takes at most one part in twenty of the time, draws no random numbers, and so changes nothing of the result.
"""

from __future__ import annotations

import time

from cryovae.io.files import write_volume
from cryovae.posterior.tiles import TilePredictor
from cryovae.tomogram import Tomogram
from cryovae.training.trainer import Trainer
from cryovae.workflows.run_folder import RunFolder, log

LIVE = "live.mrc"
# Seconds between two looks, at least, and in units of how long the last one took.
LEAST, SHARE = 5.0, 20.0
# Voxels of the middle that is looked at: as deep as a patch, and so wide.
WIDE = 96


class Live:
    """Writes LIVE into the folder of a run. The place of its first voxel (z, y, x) is ``live`` in run.json."""

    def __init__(self, folder: RunFolder, tomogram: Tomogram, patch: int) -> None:
        self.folder, self.tomogram, self.patch = folder, tomogram, patch
        sizes = tuple(min(size, most) for size, most in zip(tomogram.shape, (patch, WIDE, WIDE), strict=True))
        self.start = tuple((size - part) // 2 for size, part in zip(tomogram.shape, sizes, strict=True))
        self.box = tuple(slice(a, a + n) for a, n in zip(self.start, sizes, strict=True))
        self._next = time.monotonic() + LEAST
        folder.path(LIVE).unlink(missing_ok=True)
        folder.save(live=list(self.start))

    def look(self, trainer: Trainer) -> None:
        """Write the middle anew, if it is time to."""
        began = time.monotonic()
        if began < self._next:
            return
        prepared = trainer.prepared_tomograms[0]
        predictor = TilePredictor(trainer.average, self.patch, 2, 0, trainer.device, lambda tiles: None)
        found = predictor.predict(prepared.density[self.box].contiguous(), prepared.tilts) * prepared.scale + prepared.mean
        write_volume(self.folder.path(LIVE), found.numpy(), None, self.tomogram.voxel_size, f"step {trainer.step}, live")
        took = time.monotonic() - began
        self._next = time.monotonic() + max(LEAST, SHARE * took)
        log.info("live.mrc at step %d, in %.1f s", trainer.step, took)

    def close(self) -> None:
        """Nothing live is left once training has ended."""
        self.folder.path(LIVE).unlink(missing_ok=True)
