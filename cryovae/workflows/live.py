"""A view of training in progress: the middle of the tomogram, restored by the averaged model of that moment, as live.mrc.

It takes at most one part in twenty of the time, draws no random numbers, and so changes nothing of the result.
"""

from __future__ import annotations

import time

from cryovae.data.measurement import Measurement
from cryovae.io.files import write_volume
from cryovae.models.ladder import Ladder
from cryovae.posterior.ladder_boxes import LadderBoxes
from cryovae.tomogram import Tomogram
from cryovae.training.trainer import Trainer
from cryovae.training.variational import Variational
from cryovae.workflows.run_folder import RunFolder, log

LIVE = "live.mrc"
# Seconds between two views, at least, and in units of the duration of the last one.
MIN_INTERVAL, INTERVAL_FACTOR = 5.0, 20.0
# Width of the middle in voxels; its depth is that of a patch.
WIDTH = 96


class Live:
    """Writes LIVE into the folder of a run. The place of its first voxel (z, y, x) is ``live`` in run.json."""

    def __init__(self, folder: RunFolder, tomogram: Tomogram, patch: int, method: Variational) -> None:
        self.folder, self.tomogram, self.patch, self.method = folder, tomogram, patch, method
        sizes = tuple(min(size, most) for size, most in zip(tomogram.shape, (patch, WIDTH, WIDTH), strict=True))
        self.start = tuple((size - part) // 2 for size, part in zip(tomogram.shape, sizes, strict=True))
        self.box = tuple(slice(a, a + n) for a, n in zip(self.start, sizes, strict=True))
        self._next = time.monotonic() + MIN_INTERVAL
        folder.path(LIVE).unlink(missing_ok=True)
        folder.save(live=list(self.start))

    def look(self, trainer: Trainer[Ladder, Measurement]) -> None:
        """Write the middle anew, if it is time to."""
        began = time.monotonic()
        if began < self._next:
            return
        prepared = self.method.prepared_tomograms[0]
        predictor = LadderBoxes(trainer.average, self.patch, trainer.device)
        restored = predictor.predict(prepared.density[self.box].contiguous(), prepared.tilts) * prepared.scale + prepared.mean
        write_volume(self.folder.path(LIVE), restored.numpy(), None, self.tomogram.voxel_size, f"step {trainer.step}, live")
        took = time.monotonic() - began
        self._next = time.monotonic() + max(MIN_INTERVAL, INTERVAL_FACTOR * took)
        log.info("live.mrc at step %d, in %.1f s", trainer.step, took)

    def close(self) -> None:
        """Remove the live volume: the training has ended."""
        self.folder.path(LIVE).unlink(missing_ok=True)
