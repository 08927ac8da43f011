"""cryovae train."""

from __future__ import annotations

from cryovae.workflows.requests import TrainRequest


def train(request: TrainRequest) -> None:
    """Train one model on several tomograms, or on a .star table.

    Apply it with restore --model. Each tomogram is drawn equally often, and only the parts in use are in memory. If a
    tomogram does not fit into memory, the model is trained on crops of it. A table of particles, or an optimisation set,
    trains on its subtomograms.
    """
    if request.results.dry_run:
        from cryovae.cli.dry_run import say_train

        say_train(request)
        return
    from cryovae.workflows import run

    print(f"trained: {run.train(request)}")
