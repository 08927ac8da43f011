"""cryovae train."""

from __future__ import annotations

from cryovae.workflows.requests import TrainRequest


def train(request: TrainRequest) -> None:
    """Train one model on several tomograms, or on all of a .star table; apply it with restore --model.

    Each tomogram is drawn equally often, and only the parts in use are in memory. If a tomogram does not fit into memory, the
    model is trained on crops of it. A table of particles, or an optimisation set, trains on its subtomograms.
    """
    from cryovae.workflows import run

    print(f"trained: {run.train(request)}")
