"""On a GPU what a processor gives, to the precision of what runs there; skipped where there is none."""

from __future__ import annotations

import copy

import pytest
import torch

from cryovae.checkpoint import load_state, save_state
from cryovae.data.measurement import MaskingConfig
from cryovae.data.prepare import prepare, prepare_halves
from cryovae.io.journal import Journal
from cryovae.models.ladder import Ladder
from cryovae.models.ladder_config import FLOW, LadderConfig
from cryovae.models.unet import UNet
from cryovae.objectives.deterministic import NAMES
from cryovae.objectives.elbo import ObjectiveConfig
from cryovae.posterior.search import LANGEVIN, REWEIGHTED
from cryovae.restoration.config import RestoreConfig
from cryovae.restoration.file_storage import FileStorage
from cryovae.restoration.networks import fill_halves, restore_by_network
from cryovae.restoration.restorer import Restorer, refilled
from cryovae.training.deterministic import Deterministic
from cryovae.training.method import TrainingConfig
from cryovae.training.trainer import Interrupted, Trainer
from cryovae.training.variational import Variational
from tests.helpers.generative import tiny_generator

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SMALL = TrainingConfig(patch=16, batch=2, steps=12, learning_rate=1e-3, validate_every=4, precision="float32")
SIZES = LadderConfig((8, 16, 16), (2, 3, 4), 1)


@pytest.fixture(autouse=True)
def exact():
    """Convolutions in full float32: what is compared is the code."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


def trainer_of(tomogram, device, objective=None, config=SMALL, sizes=SIZES):
    objective = objective or ObjectiveConfig(completion_fraction=0.4, warmup=0.3, refill_from=0.5, refill_every=0.25)

    def refill(ladder, prepared, seed):
        return refilled(ladder, prepared, config.patch, seed, device)

    torch.manual_seed(0)
    ladder = Ladder(sizes, objective.encoders)
    masking, prepared = MaskingConfig(rotated_fraction=0.3), prepare(tomogram, config.patch)
    return Trainer(Variational(ladder, [prepared], config, masking, objective, device, refill))


def ran(trainer):
    reports = []
    return trainer.run(reports.append, lambda state: None), reports


def test_the_first_steps_are_those_of_a_processor(small):
    one, two = (ran(trainer_of(small, device))[1] for device in (CPU, CUDA))
    for a, b in zip(one[:3], two[:3], strict=True):
        assert b.figures == pytest.approx(a.figures, rel=2e-2, abs=2e-3)
    assert one[-1].figures.keys() == two[-1].figures.keys()


def test_a_run_in_bfloat16_learns_as_one_in_float32(small):
    half = TrainingConfig(**vars(SMALL) | {"precision": "auto", "steps": 60})
    full = TrainingConfig(**vars(SMALL) | {"steps": 60})
    one, two = (ran(trainer_of(small, CUDA, config=config))[1] for config in (full, half))
    mean = [sum(r.figures["completion"] for r in reports[10:24]) / 14 for reports in (one, two)]
    assert mean[1] == pytest.approx(mean[0], abs=0.05)


@pytest.mark.parametrize("stop_at", [3, 8])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(small, tmp_path, stop_at):
    uninterrupted, _ = ran(trainer_of(small, CUDA))
    first, states = trainer_of(small, CUDA), []
    with pytest.raises(Interrupted):
        first.run(lambda report: None, states.append, lambda: first.step == stop_at)
    save_state(tmp_path / "state.pt", states[-1])
    second = trainer_of(small, CUDA)
    second.resume(load_state(tmp_path / "state.pt"))
    resumed, _ = ran(second)
    for one, two in zip(uninterrupted.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("kind", ["one encoder", "wae", "sliced", "sinkhorn", "certain", "free bits", "balanced", "flow"])
def test_every_member_of_the_family_takes_its_steps(small, kind):
    settings = {
        "one encoder": {"encoders": 1},
        "wae": {"name": "wae"},
        "sliced": {"name": "wae", "divergence": "sliced"},
        "sinkhorn": {"name": "wae", "divergence": "sinkhorn"},
        "certain": {"name": "wae", "stochastic": False},
        "free bits": {"free_bits": 1.0},
        "balanced": {"balance": True},
        "flow": {},
    }[kind]
    sizes = SIZES
    if kind == "flow":
        pytest.importorskip("zuko")
        sizes = LadderConfig((8, 16, 16), (2, 3, 4), 1, FLOW)
    if kind == "sinkhorn":
        pytest.importorskip("geomloss")
    _, reports = ran(trainer_of(small, CUDA, ObjectiveConfig(completion_fraction=0.4, warmup=0.3, **settings), sizes=sizes))
    assert all(torch.tensor(list(r.figures.values())).isfinite().all() for r in reports)


def test_restoring_gives_what_a_processor_gives(small, ladder, tmp_path):
    config = RestoreConfig(samples=4, samples_out=1, batch=4, precision="float32")
    one = Restorer(copy.deepcopy(ladder), 16, config, CPU)(small)
    two = Restorer(copy.deepcopy(ladder), 16, config, CUDA)(small)
    journal = Journal(tmp_path / "journal.json", {"config": repr(config)})
    journal.resume()
    storage = FileStorage(tmp_path, small.shape, journal, 4e5)
    three = Restorer(copy.deepcopy(ladder), 16, config, CUDA).restore(small, storage)
    scale = float(small.density.std())
    for name in ("mean", "std"):
        a, b, c = getattr(one, name), getattr(two, name), torch.from_numpy(getattr(three, name)[:])
        assert float((a - b.cpu()).abs().max()) < 2e-3 * scale
        assert float((b.cpu() - c).abs().max()) < 2e-3 * scale
    assert two.held_out["correlation"] == pytest.approx(one.held_out["correlation"], abs=2e-3)


@pytest.mark.parametrize("sampler", [{"refine": 3}, {"sampler": REWEIGHTED, "candidates": 4}])
def test_searching_runs(small, ladder, sampler):
    restored = Restorer(ladder, 16, RestoreConfig(samples=2, orientations=1, halves=False, **sampler), CUDA)(small)
    assert restored.mean.isfinite().all()


@pytest.mark.parametrize("sampler", ["flow", LANGEVIN])
def test_the_flow_refines_and_draws(small, ladder, sampler):
    config = RestoreConfig(samples=2, sampler=sampler, flow_steps=2, chain=4, halves=False)
    restored = Restorer(ladder, 16, config, CUDA, flow=tiny_generator().taking_estimates())(small)
    assert restored.mean.isfinite().all()
    assert set(restored.held_out["mean"]) == {"completion", "refined", "average"}


@pytest.mark.parametrize("objective", NAMES)
def test_every_rival_takes_its_steps_and_restores(small, objective):
    torch.manual_seed(0)
    config = TrainingConfig(**vars(SMALL) | {"steps": 6})
    halves = prepare_halves(small, prepare(small, 16))
    fill = lambda network, data, seed: fill_halves(network, data, 16, CUDA)  # noqa: E731
    trained = Trainer(Deterministic(UNet(SIZES), [halves], config, objective, CUDA, fill_wedge=fill)).run()
    assert restore_by_network(trained, small, 16, objective, CUDA).mean.isfinite().all()
