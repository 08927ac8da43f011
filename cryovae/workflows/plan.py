"""The plan of a run, known before it begins. The run, its dry run, `info` and napari all use it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cryovae.checkpoint import Checkpoint, NetworkCheckpoint
from cryovae.config import RunConfig, override
from cryovae.posterior.search import AMORTISED
from cryovae.progress.costs import Work
from cryovae.workflows.start import Start


@dataclass(frozen=True)
class Plan:
    """What a run does. A network that it begins with is taken to pass its trial.

    Attributes:
        config: the settings, with the sampler that is used.
        steps: of training; 0 to train nothing.
        fits: whether the flow is fitted.
        tries: whether a network is tried on hidden data first.
        at_once: whether a trained network restores without training.
    """

    config: RunConfig
    steps: int
    fits: bool
    tries: bool
    at_once: bool

    def work(self, shapes: Sequence[tuple[int, ...]], halves: bool, restores: bool = True) -> Work:
        """The work that this plan takes for tomograms of these shapes, (z, y, x) each."""
        return Work(shapes, halves, self.config, self.steps, self.fits, restores, self.tries)


def plan_of(
    config: RunConfig,
    start: Start | None = None,
    model: Checkpoint | NetworkCheckpoint | None = None,
    sampler_asked: bool = False,
    steps_left: int | None = None,
) -> Plan:
    """The plan of a run.

    Args:
        config: its settings.
        start: the network with which a training begins, or that restores at once, if no model is named.
        model: the trained model that restores, or None.
        sampler_asked: whether the user named the sampler. If not, a start that restores at once uses its encoder.
        steps_left: of the training, if it was begun before; None for all of them.
    """
    # What restores without training: the model, or else a start that is not trained further.
    trained = model if model is not None else start.network if start is not None and not start.trains else None
    has_flow = isinstance(trained, Checkpoint) and trained.flow is not None
    if model is None and trained is not None and not has_flow and not sampler_asked:
        config = override(config, {"restoration.sampler": AMORTISED})
    at_once = trained is not None
    steps = 0 if at_once else config.training.steps if steps_left is None else steps_left
    fits = config.restoration.by_flow and config.objective.variational and not has_flow
    # A named model is never tried.
    tries = model is None and start is not None and (at_once or start.is_default)
    return Plan(config, steps, fits, tries, at_once)
