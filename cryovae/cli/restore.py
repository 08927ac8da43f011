"""cryovae restore."""

from __future__ import annotations

from cryovae.workflows.requests import RestoreRequest


def restore(request: RestoreRequest) -> None:
    """Restore a tomogram, from one volume or from two halves: posterior mean, standard deviation, samples.

    A table of tomograms (.star of IsoNet, RELION or cryovae star import) is restored row by row with one model.
    """
    from cryovae.workflows import run

    print(f"restored: {run.restore(request)}")
