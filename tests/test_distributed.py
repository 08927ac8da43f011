"""Two processes give the gradients, the training and the restoration of one."""

import os
import socket
from dataclasses import replace

import pytest
import torch
from torch import multiprocessing

from cryovae import distributed
from cryovae.data.measurement import MaskingConfig
from cryovae.data.prepare import prepare, prepare_halves
from cryovae.models.ladder import Ladder
from cryovae.models.ladder_config import LadderConfig
from cryovae.models.unet import UNet
from cryovae.objectives.elbo import ObjectiveConfig
from cryovae.restoration.config import RestoreConfig
from cryovae.restoration.restorer import Restorer
from cryovae.simulation.simulate import SimulationConfig, simulate
from cryovae.tomogram import Tomogram
from cryovae.training.deterministic import Deterministic
from cryovae.training.method import TrainingConfig
from cryovae.training.trainer import Trainer
from cryovae.training.variational import Variational

SIDE, BATCH, SAMPLES = 16, 4, 2
WIDTHS = LadderConfig(widths=(4, 6), latents=(2, 3), blocks=1)


def _tomogram():
    made = simulate(SimulationConfig(shape=(32, 40, 36), seed=2))
    halves = (made.half1.numpy(), made.half2.numpy())
    return Tomogram("made", (halves[0] + halves[1]) / 2, 10.0, made.tilts, halves)


def _trainer(batch, steps, completion_fraction=0.0, **changes):
    torch.manual_seed(0)
    # A high limit, so that gradients are compared before clipping.
    config = TrainingConfig(
        patch=SIDE, batch=batch, steps=steps, validate_every=3, learning_rate=1e-3, binnings=1, clip=1e9, precision="float32"
    )
    # Without a warm-up the KL has its full weight from the first step on.
    objective = replace(ObjectiveConfig(completion_fraction=completion_fraction, warmup=0.0, refill_from=1.0), **changes)
    masking, prepared = MaskingConfig(rotated_fraction=0.5), prepare(_tomogram(), SIDE)
    return Trainer(Variational(Ladder(WIDTHS), [prepared], config, masking, objective, torch.device("cpu")))


def _gradients(batch, completion_fraction):
    trainer = _trainer(batch, 4, completion_fraction)
    figures, _ = trainer._gradients(trainer.method.draw(0), {})
    gradients = {name: p.grad.clone() for name, p in trainer.network.named_parameters() if p.grad is not None}
    return gradients, figures


def _network_gradients(batch):
    """The gradients of a U-Net by DeepDeWedge's loss, and its figures."""
    torch.manual_seed(0)
    network = UNet(WIDTHS)
    torch.nn.init.normal_(network.out.weight, std=0.1)
    config = TrainingConfig(patch=SIDE, batch=batch, steps=4, clip=1e9, precision="float32")
    tomogram = _tomogram()
    halves = [prepare_halves(tomogram, prepare(tomogram, SIDE))]
    trainer = Trainer(Deterministic(network, halves, config, "deepdewedge", torch.device("cpu")))
    figures, _ = trainer._gradients(trainer.method.draw(0), {})
    return {name: p.grad.clone() for name, p in trainer.network.named_parameters() if p.grad is not None}, figures


def _restored(seed=0):
    torch.manual_seed(seed)
    ladder = Ladder(WIDTHS)
    for p in ladder.parameters():
        torch.nn.init.normal_(p, std=0.05)
    return Restorer(ladder, SIDE, RestoreConfig(samples=SAMPLES, samples_out=1, precision="float32"))(_tomogram())


def _trained(batch):
    trainer = _trainer(batch, 6, 0.5)
    reports = []
    trainer.run(reports.append, lambda state: None)
    return trainer.average.state_dict(), [report.figures for report in reports]


def _stopped(number):
    """The step at which a run ends when only the last process is asked to stop."""
    trainer = _trainer(2, 6)
    asked = []

    def stop():
        asked.append(True)
        return number == distributed.count() - 1 and len(asked) == 3

    try:
        trainer.run(lambda report: None, lambda state: None, stop)
    except Exception as stopped:
        return type(stopped).__name__, trainer.step
    return "ended", trainer.step


def _communicated(number):
    return distributed.broadcast(f"by {number}"), distributed.any_rank(number == 1), distributed.own(7)


def _process(number, port, results, work):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    with distributed.joined(distributed.Place(number, 2, number)):
        torch.save({name: function(*arguments) for name, (function, arguments) in work(number).items()}, results / f"{number}.pt")


def _work(number):
    return {
        "completion": (_gradients, (BATCH // 2, 0.5)),
        "bound": (_gradients, (BATCH // 2, 0.0)),
        "network": (_network_gradients, (BATCH // 2,)),
        "trained": (_trained, (BATCH // 2,)),
        "restored": (_restored, ()),
        "stopped": (_stopped, (number,)),
        "communicated": (_communicated, (number,)),
    }


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(_process, (port, folder, _work), nprocs=2)
    return [torch.load(folder / f"{number}.pt", weights_only=False) for number in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize(("phase", "completion_fraction"), [("completion", 0.5), ("bound", 0.0)])
def test_two_ranks_have_the_gradients_of_one_with_twice_the_batch(both, phase, completion_fraction):
    expected, figures = _gradients(BATCH, completion_fraction)
    for gradients, values in (one[phase] for one in both):
        assert gradients.keys() == expected.keys()
        for name, gradient in expected.items():
            assert torch.allclose(gradients[name], gradient, rtol=1e-4, atol=1e-5 * float(gradient.abs().max()) + 1e-9), name
        assert values == pytest.approx(figures, rel=1e-4)


def test_two_ranks_have_the_gradients_of_one_of_a_network_too(both):
    expected, figures = _network_gradients(BATCH)
    for gradients, reported in (one["network"] for one in both):
        assert gradients.keys() == expected.keys()
        for name, gradient in expected.items():
            assert torch.allclose(gradients[name], gradient, rtol=1e-4, atol=1e-5 * float(gradient.abs().max()) + 1e-9), name
        assert reported == pytest.approx(figures, rel=1e-4)


def test_two_ranks_train_alike_and_as_one(both):
    expected, figures = _trained(BATCH)
    for name, weights in expected.items():
        assert torch.equal(both[0]["trained"][0][name], both[1]["trained"][0][name])
        assert torch.allclose(both[0]["trained"][0][name], weights, atol=2e-3), name
    assert both[0]["trained"][1][0] == pytest.approx(figures[0], rel=1e-4)


def test_two_ranks_restore_what_one_restores(both):
    expected = _restored()
    for restored in (one["restored"] for one in both):
        for volume, other in (
            (expected.mean, restored.mean),
            (expected.std, restored.std),
            (expected.samples[0], restored.samples[0]),
        ):
            assert float((volume - other).abs().max()) < 1e-4 * float(volume.std())


def test_one_stopped_rank_stops_all_at_the_same_step(both):
    assert [one["stopped"] for one in both] == [("Interrupted", 2)] * 2


def test_the_first_rank_broadcasts_and_any_rank_raises_a_flag(both):
    assert [one["communicated"] for one in both] == [("by 0", True, slice(0, 3)), ("by 0", True, slice(3, 7))]


def test_a_launcher_assigns_the_place_of_a_process():
    meeting = {"MASTER_ADDR": "here", "MASTER_PORT": "29500"}
    assert distributed.place(meeting | {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}) == distributed.Place(3, 8, 1)
    slurm = {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_LOCALID": "1"}
    assert distributed.place(meeting | slurm) == distributed.Place(1, 2, 1)
    # Without a master address each task of a job is a process of its own.
    assert distributed.place(slurm) == distributed.Place()
    assert distributed.place({}) == distributed.Place()
    assert distributed.place(meeting | {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}) == distributed.Place()


def test_a_single_process_shares_nothing():
    x = torch.ones(3)
    assert distributed.summed(x) is x
    assert (distributed.count(), distributed.rank(), distributed.own(5)) == (1, 0, slice(0, 5))
