"""What fills the wedge of a volume while other bins of it are hidden: the mean of a ladder, a sample of the flow."""

import torch

from cryovae.calibration import scores
from cryovae.calibration.scores import Subject, held_out_sums
from cryovae.data.prepare import prepare
from cryovae.posterior.flow_posterior import FlowPosterior
from cryovae.posterior.ladder_boxes import LadderBoxes
from cryovae.posterior.ladder_posterior import LadderPosterior
from tests.helpers.generative import tiny_generator

CPU = torch.device("cpu")


def _filled(posterior, subject, monkeypatch):
    """What ``held_out_sums`` fills the wedge with."""
    fills = []
    hide = scores.with_hidden_wedge

    def hiding(data, tilts, noise, fill, rotation, generator):
        fills.append(fill)
        return hide(data, tilts, noise, fill, rotation, generator)

    monkeypatch.setattr(scores, "with_hidden_wedge", hiding)
    held_out_sums(posterior, subject, rotations=1, samples=2)
    return fills[0]


def test_a_ladder_fills_the_wedge_with_its_mean(small, ladder, monkeypatch):
    subject = Subject.of(prepare(small, 16), None, 16)
    posterior = LadderPosterior(ladder, 16, CPU, 2, 0)
    mean = LadderBoxes(ladder, 16, CPU).predict(subject.volume.data, subject.volume.tilts, 2)
    assert torch.equal(posterior.restored(subject.volume, 2)[0][0], mean)
    assert torch.equal(_filled(posterior, subject, monkeypatch), mean)


def test_the_flow_fills_the_wedge_with_a_sample(small, ladder, monkeypatch):
    subject = Subject.of(prepare(small, 16), None, 16)
    posterior = FlowPosterior(tiny_generator().taking_estimates(), ladder, 16, CPU, 2, 0)
    _, (sample, _) = posterior.restored(subject.volume, 2)
    assert torch.equal(_filled(posterior, subject, monkeypatch), sample)
