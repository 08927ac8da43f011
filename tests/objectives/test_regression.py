"""The losses of others: least at the exact predicted, scored where their papers say, and lowered by training."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from cryovae import fourier
from cryovae.data.prepare import prepare, prepare_halves
from cryovae.data.sampling import step_generator
from cryovae.models.ladder_config import LadderConfig
from cryovae.models.unet import UNet
from cryovae.objectives.regression import (
    OBJECTIVES,
    HalfPair,
    deepdewedge,
    draw_halves,
    icecream,
    isonet2,
    masked_power,
    standardised_like,
)
from cryovae.physics.rotation import training_rotations
from cryovae.physics.wedge import patch_mask
from cryovae.tomogram import TiltGeometry, Tomogram
from cryovae.training.deterministic import Deterministic
from cryovae.training.method import TrainingConfig
from cryovae.training.trainer import Trainer

SIDE = 16
SHAPE = (SIDE, SIDE, SIDE)
Loss = Callable[..., Tensor]


def _loss(name: str) -> Loss:
    return lambda network, pair: OBJECTIVES[name](network, pair, step_generator(0, 0))


def _binary(tilts: TiltGeometry, matrix: Tensor | None = None) -> Tensor:
    return (patch_mask(SHAPE, tilts, matrix) > 0.5).float()


class Scene:
    """Two patches x without noise, measured within a wedge whose edge is sharp, and their rotated versions R x."""

    def __init__(self, tilts: TiltGeometry, noise: float = 0.0) -> None:
        rng = torch.Generator().manual_seed(5)
        rotations = [training_rotations(tilts)[i] for i in (1, 9)]
        input_mask = _binary(tilts)
        inside = fourier.below_nyquist(SHAPE)
        self.x = fourier.filtered(torch.randn(2, *SHAPE, generator=rng), inside)
        measured = [fourier.filtered(self.x + noise * torch.randn(2, *SHAPE, generator=rng), input_mask) for _ in range(2)]
        rotated = torch.stack([_binary(tilts, g.matrix) for g in rotations])
        self.pair = HalfPair(measured[0], measured[1], measured[0], rotations, input_mask, rotated)
        self.rotated_x = self.pair.rotated(self.x)

    def exact(self, u: Tensor) -> Tensor:
        """The exact density of an input: x for a patch as it was cut, R x for a rotated one, whatever is missing of it."""
        both = torch.stack((self.x, self.rotated_x))
        agreement = (both * u).sum((2, 3, 4)) / u.square().sum((1, 2, 3)).sqrt()
        return both[agreement.argmax(0), torch.arange(len(u))]


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene(TiltGeometry.from_range(-50, 60))


def test_masked_power_is_the_mean_square_of_what_the_mask_leaves(scene: Scene) -> None:
    x = torch.randn(2, *SHAPE)
    expected = fourier.filtered(x, scene.pair.rotated_mask).square().mean()
    assert masked_power(x, scene.pair.rotated_mask).item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_the_loss_is_zero_at_the_exact_density_and_nowhere_else(scene: Scene, name: str) -> None:
    loss = _loss(name)
    assert loss(scene.exact, scene.pair).item() == pytest.approx(0.0, abs=1e-9)
    assert loss(lambda u: 0.9 * scene.exact(u), scene.pair).item() > 1e-3
    assert loss(lambda u: u, scene.pair).item() > 1e-2


def _gradient(loss: Loss, pair: HalfPair) -> Tensor:
    """Power spectrum of the gradient with respect to a network's predicted that ignores its input."""
    predicted = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(1)).requires_grad_()
    loss(lambda u: predicted, pair).backward()
    assert predicted.grad is not None
    return fourier.transform(predicted.grad).abs()


def test_deepdewedge_scores_measured_bins_and_weighs_the_wedge_twice(scene: Scene) -> None:
    predicted = torch.randn(2, *SHAPE, requires_grad=True)
    deepdewedge(lambda u: predicted, scene.pair).backward()
    assert predicted.grad is not None
    input_mask, rotated = scene.pair.input_mask, scene.pair.rotated_mask
    miss = fourier.transform(predicted.detach() - scene.pair.rotated(scene.pair.second))
    expected = 2 * rotated * (input_mask + 2 * (1 - input_mask)) * miss / miss[..., 0, 0, 0].numel() / SIDE**3
    assert torch.allclose(fourier.transform(predicted.grad), expected, atol=1e-7)


def test_free_rotations_are_scored_on_the_data_as_they_were_measured(tomogram: Tomogram) -> None:
    """Where the predicted is what the data are, rotated, next to nothing is left to pay but the interpolation."""
    prepared = prepare(tomogram, SIDE)
    smooth = fourier.filtered(prepared.density, torch.exp(-0.5 * (fourier.radius(prepared.density.shape) / 0.06).square()))
    pair = draw_halves(prepared, (smooth, smooth), (smooth, smooth), SIDE, 2, step_generator(0, 3), free_fraction=1.0)
    free = pair.free
    assert free is not None
    least = deepdewedge(lambda u: free.source, pair).item()
    nothing = deepdewedge(torch.zeros_like, pair).item()
    unrotated = deepdewedge(lambda u: pair.second, pair).item()
    assert least < 0.05 * nothing
    assert least < 0.1 * unrotated
    assert draw_halves(prepared, (smooth, smooth), (smooth, smooth), SIDE, 2, step_generator(0, 3)).free is None


def test_only_isonet2_without_mw_weight_scores_unmeasured_bins(scene: Scene) -> None:
    never = (scene.pair.rotated_mask == 0) & (fourier.below_nyquist(SHAPE) > 0)
    names = ("deepdewedge", "isonet2", "isonet2_mw")
    gradients = {name: _gradient(_loss(name), scene.pair)[never].max().item() for name in names}
    assert gradients["isonet2"] > 1e-5
    assert gradients["deepdewedge"] < 1e-9
    assert gradients["isonet2_mw"] < 1e-8


def test_isonet2_fills_without_a_gradient_and_predicts_with_one(scene: Scene) -> None:
    seen: list[bool] = []

    def network(u: Tensor) -> Tensor:
        seen.append(torch.is_grad_enabled())
        return u

    isonet2(network, scene.pair, 20.0, step_generator(0, 0))
    assert seen == [False, False, True, True]


def test_isonet2_keeps_what_was_measured_of_its_targets() -> None:
    """Whatever the network fills in, what RM scores is the other half's data: mw_weight never trains on its own outputs."""
    scene = Scene(TiltGeometry.from_range(-60, 60), noise=0.3)
    calls = 0

    def network(scale: float) -> Callable[[Tensor], Tensor]:
        def predicted(u: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            return scale * u.flip(0) if calls % 4 in (1, 2) else scene.rotated_x

        return predicted

    first = isonet2(network(1.0), scene.pair, 20.0, step_generator(0, 0))
    second = isonet2(network(3.0), scene.pair, 20.0, step_generator(0, 0))
    assert first.item() == pytest.approx(second.item(), rel=1e-4)


def test_icecream_sends_gradients_through_both_passes_and_the_reference(scene: Scene) -> None:
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []
    weight = torch.tensor(0.7, requires_grad=True)

    def network(u: Tensor) -> Tensor:
        inputs.append(u)
        output = weight * torch.tanh(u)
        output.retain_grad()
        outputs.append(output)
        return output

    icecream(network, scene.pair).backward()
    assert len(outputs) == 4
    assert [u.requires_grad for u in inputs] == [False, False, True, True]
    outside = (scene.pair.input_mask == 0) & (fourier.below_nyquist(SHAPE) > 0)
    for predicted in outputs[:2]:
        assert predicted.grad is not None
        # The observation term has no say there: what comes is from the second pass and from its reference.
        assert fourier.transform(predicted.grad)[:, outside].abs().max() > 1e-6


@pytest.mark.parametrize("name", ["isonet2", "isonet2_mw", "icecream"])
def test_halves_stand_for_each_other(scene: Scene, name: str) -> None:
    pair = scene.pair
    noisy = HalfPair(pair.first, 1.1 * pair.second, pair.first, pair.rotations, pair.input_mask, pair.rotated_mask)
    swapped = HalfPair(noisy.second, noisy.first, noisy.second, pair.rotations, pair.input_mask, pair.rotated_mask)
    loss = _loss(name)
    # Without noise between the halves' outputs IsoNet2 adds none, and the order cannot matter.
    assert loss(scene.exact, noisy).item() == pytest.approx(loss(scene.exact, swapped).item(), rel=0.02)


def test_a_batch_holds_both_halves_of_a_place_in_either_order(tomogram: Tomogram) -> None:
    prepared = prepare(tomogram, SIDE)
    halves = prepare_halves(tomogram, prepared).halves
    tagged = (torch.zeros_like(halves[0]), torch.ones_like(halves[1]))
    place = torch.arange(halves[0].numel(), dtype=torch.float64).view(halves[0].shape)
    orders = set()
    for step in range(12):
        pair = draw_halves(prepared, tagged, tagged, SIDE, 2, step_generator(0, step))
        assert torch.equal(pair.first + pair.second, torch.ones(2, *SHAPE))
        assert torch.equal(pair.filled, pair.first)
        orders |= set(pair.first[:, 0, 0, 0].tolist())
        same = draw_halves(prepared, (place, place), (place, place), SIDE, 2, step_generator(0, step))
        for corner in same.first[:, 0, 0, 0].long().tolist():
            z, y, x = corner // (56 * 48), corner // 48 % 56, corner % 48
            assert not prepared.overlaps_held_out((z, y, x), SIDE)
    assert orders == {0.0, 1.0}


@pytest.mark.parametrize(
    "name", [name if name == "deepdewedge" else pytest.param(name, marks=pytest.mark.slow) for name in sorted(OBJECTIVES)]
)
def test_a_short_training_lowers_it(small: Tomogram, name: str) -> None:
    torch.manual_seed(0)
    config = TrainingConfig(patch=SIDE, batch=2, steps=25, learning_rate=3e-3, ema=0.9)
    network = UNet(LadderConfig(widths=(4, 6, 8), latents=(2, 2, 2), blocks=1))
    data = prepare_halves(small, prepare(small, SIDE))
    trainer = Trainer(Deterministic(network, [data], config, name, torch.device("cpu")))
    # Batches are noisy, so the same few are scored before and after.
    draws = [step_generator(1, i) for i in range(4)]
    pairs = [draw_halves(data.prepared, data.halves, data.halves, SIDE, 2, rng) for rng in draws]

    def total() -> float:
        with torch.no_grad():
            return sum(_loss(name)(trainer.average, pair).item() for pair in pairs)

    before = total()
    trainer.run()
    assert trainer.step == 25
    # With mw_weight 20 most of it is noise in the targets, which nothing lowers.
    assert total() < 0.97 * before


def test_a_soft_mask_weighs_amplitudes_and_a_scaled_input_has_its_model_s_level(scene: Scene) -> None:
    x, model = torch.randn(2, *SHAPE), 3 * torch.randn(2, *SHAPE) + 7
    half = torch.full((SIDE, SIDE, SIDE // 2 + 1), 0.5)
    assert masked_power(x, half).item() == pytest.approx(0.25 * x.square().mean().item(), rel=1e-4)
    scaled = standardised_like(x, model)
    axes = (1, 2, 3)
    assert torch.allclose(scaled.mean(axes), model.mean(axes), atol=1e-3)
    assert torch.allclose(scaled.std(axes), model.std(axes), rtol=1e-3)


def test_icecream_predicts_the_other_half_and_itself_after_a_rotation() -> None:
    """Of a network that returns what it sees, against the sums of its paper."""
    pair = Scene(TiltGeometry.from_range(-50, 60), noise=1.0).pair
    halves, expected = (pair.first, pair.second), 0.0
    for one, other in (halves, halves[::-1]):
        expected += masked_power(one - other, pair.input_mask).item()
        again = fourier.filtered(pair.rotated(one), pair.input_mask)
        expected += 2 * masked_power(again - pair.rotated(other), pair.rotated_mask).item()
    assert masked_power(pair.first - pair.second, pair.input_mask).item() > 0.5
    assert icecream(lambda u: u, pair).item() == pytest.approx(expected, rel=1e-4)
