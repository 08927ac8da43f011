"""Deterministic networks in the same loop: refills in the wedge alone, resuming, validation, precision, the guard."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from cryovae import fourier
from cryovae.data.memmap import offloaded_halves
from cryovae.data.prepare import PreparedHalves, prepare, prepare_halves
from cryovae.errors import InputError
from cryovae.models.ladder_config import LadderConfig
from cryovae.models.unet import UNet
from cryovae.objectives.regression import HalfPair
from cryovae.physics.wedge import volume_mask
from cryovae.restoration.networks import fill_halves
from cryovae.tomogram import Tomogram
from cryovae.training.deterministic import Deterministic
from cryovae.training.method import TrainingConfig
from cryovae.training.trainer import Interrupted, Report, Trainer

SIDE = 16
CPU = torch.device("cpu")
SIZES = LadderConfig(widths=(4, 6, 8), latents=(2, 2, 2), blocks=1)


def _fill(network: UNet, data: PreparedHalves, seed: int) -> tuple[Tensor, Tensor]:
    return fill_halves(network, data, SIDE, CPU)


def _halves(tomogram: Tomogram) -> PreparedHalves:
    return prepare_halves(tomogram, prepare(tomogram, SIDE))


def _trainer(tomogram: Tomogram, objective: str = "deepdewedge", steps: int = 5, **settings: Any) -> Trainer[UNet, HalfPair]:
    torch.manual_seed(0)
    config = TrainingConfig(**{"patch": SIDE, "batch": 1, "steps": steps} | settings)
    return Trainer(Deterministic(UNet(SIZES), [_halves(tomogram)], config, objective, CPU, fill_wedge=_fill))


def _method(trainer: Trainer[UNet, HalfPair]) -> Deterministic:
    assert isinstance(trainer.method, Deterministic)
    return trainer.method


def test_a_refill_changes_the_wedge_of_the_inputs_and_never_the_targets(small: Tomogram) -> None:
    trainer = _trainer(small)
    data = _method(trainer).tomograms[0]
    torch.nn.init.normal_(trainer.average.out.weight, std=0.3)
    before = [half.clone() for half in data.halves]
    trainer.method.refill(trainer.average, 1)
    mask = volume_mask(small.shape, small.tilts)
    for filled, half, old in zip(data.filled, data.halves, before, strict=True):
        change = fourier.transform(filled - half).abs()
        assert change[mask == 1].max() < 1e-4
        assert change[mask == 0].mean() > 1e-3
        assert torch.equal(half, old)
    assert [len(_trainer(small, name).method.refill_at) for name in ("deepdewedge", "isonet2", "icecream")] == [4, 0, 0]


@pytest.mark.parametrize("objective", ["deepdewedge", "isonet2", "cryogen1", "cryogen2"])
def test_a_resumed_run_is_the_uninterrupted_one(small: Tomogram, objective: str) -> None:
    uninterrupted, stopped, resumed = (_trainer(small, objective) for _ in range(3))
    expected = uninterrupted.run()
    saved: list[dict[str, Any]] = []
    with pytest.raises(Interrupted):
        stopped.run(save=saved.append, stop=lambda: stopped.step == 3)
    resumed.resume(saved[0])
    network = resumed.run()
    for a, b in zip(expected.parameters(), network.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_state_of_version_0_1_without_a_guard_is_resumed(small: Tomogram) -> None:
    stopped, resumed = _trainer(small), _trainer(small)
    saved: list[dict[str, Any]] = []
    with pytest.raises(Interrupted):
        stopped.run(save=saved.append, stop=lambda: stopped.step == 3)
    old = {key: saved[0][key] for key in ("step", "network", "average", "optimiser", "adversary", "filled")}
    resumed.resume(old)
    expected = _trainer(small).run()
    for a, b in zip(expected.parameters(), resumed.run().parameters(), strict=True):
        assert torch.equal(a, b)


def test_held_out_patches_are_scored_and_choose_no_weights(tomogram: Tomogram) -> None:
    reports: list[Report] = []
    trainer = _trainer(tomogram, steps=6, validate_every=2)
    network = trainer.run(reports.append)
    assert [r.step for r in reports if r.validation is not None] == [2, 4, 6]
    unvalidated = _trainer(tomogram, steps=6)
    _method(unvalidated).held_out = []
    for a, b in zip(network.parameters(), unvalidated.run().parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_step_whose_gradient_is_no_number_is_skipped(small: Tomogram) -> None:
    trainer = _trainer(small, steps=1)
    before = [p.clone() for p in trainer.network.parameters()]
    gradients = trainer._gradients
    trainer._gradients = lambda batch, seconds: (gradients(batch, seconds)[0], float("nan"))  # type: ignore[method-assign]
    reports: list[Report] = []
    trainer.run(reports.append)
    assert "skipped" in str(reports[0].event)
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.network.parameters(), strict=True))


def test_bfloat16_is_used_where_asked_for_and_nearly_the_same(small: Tomogram) -> None:
    gradients = []
    for precision in ("float32", "bfloat16"):
        trainer = _trainer(small, "isonet2", precision=precision)
        torch.nn.init.normal_(trainer.network.out.weight, std=0.1)
        trainer._gradients(trainer.method.draw(0), {})
        gradients.append(torch.cat([p.grad.flatten() for p in trainer.network.parameters() if p.grad is not None]))
    assert not torch.equal(*gradients)
    assert torch.cosine_similarity(*gradients, dim=0) > 0.98


def test_halves_in_files_train_the_same(small: Tomogram, tmp_path: Any) -> None:
    in_memory, in_files = _trainer(small), _trainer(small)
    _method(in_files).tomograms = [offloaded_halves(data, tmp_path) for data in _method(in_files).tomograms]
    for a, b in zip(in_memory.run().parameters(), in_files.run().parameters(), strict=True):
        assert torch.equal(a, b)
    single = offloaded_halves(_halves(replace(small, halves=None)), tmp_path / "single")
    assert single.single


def test_an_unknown_objective_is_refused(small: Tomogram) -> None:
    with pytest.raises(InputError, match="deepdewedge"):
        _trainer(small, "isonet9")
