"""What a flow posterior gains: the gaps of a small flat model with a Gaussian posterior and with one that a flow pushes.

    python pipelines/benchmark/posterior.py --out benchmark_posterior
    python pipelines/benchmark/posterior.py --side 16 --widths 6 12 24 --steps 240 --posterior-steps 120 --rate 4e-3 --evidence 0

A flat ladder (latents on one level) is trained by the bound on a simulated tomogram. Then decoder and prior are frozen, and the
posterior alone is trained on, once as it is and once with a flow, by the same patches and as many steps. The evidence of both is
then the same number, so that a difference of bounds is a difference of gaps, whatever the evidence is:

    amortisation gap     the bound after searching each patch's own m and s, less the bound
    approximation gap    the evidence less the bound after the search         the evidence: annealed importance sampling

Means over held-out patches and their standard errors, in nats a patch; differences are of the same patches.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cryovae.data.measurement import MaskingConfig, Measurement
from cryovae.data.prepare import PreparedTomogram, prepare
from cryovae.evaluation.diagnosis.patches import groups, measurement_of, select_patches
from cryovae.evaluation.diagnosis.rate_distortion import Continuation, trained_on
from cryovae.evaluation.diagnosis.small import Evidence, evidence_of, latents_of
from cryovae.models.ladder import Ladder, R
from cryovae.models.ladder_config import FLOW, GAUSSIAN, LadderConfig
from cryovae.objectives.elbo import ObjectiveConfig
from cryovae.posterior.codes import fast_convolutions
from cryovae.posterior.importance import effective_sample_size, importance_bounds, standard_error
from cryovae.posterior.problem import drawn, problem_of
from cryovae.posterior.refinement import optimised
from cryovae.simulation.simulate import SimulationConfig, simulate
from cryovae.tomogram import Tomogram
from cryovae.training.method import TrainingConfig

# One encoder that sees all that was measured: nothing of its gaps is due to bins that were kept from it.
OBJECTIVE = ObjectiveConfig(encoders=1, refill_from=1.0)
MASKING = MaskingConfig(hide=False, drop=0.0, rotated_fraction=0.0)


def main() -> None:
    """Train, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[8, 16, 32], help="channels, fine to coarse")
    parser.add_argument("--latents", type=int, default=8, help="channels of the coarsest level, the only one with latents")
    parser.add_argument("--steps", type=int, default=400, help="of training the model")
    parser.add_argument("--posterior-steps", type=int, default=200, help="of training each posterior after it")
    parser.add_argument(
        "--snr", type=float, default=3.0, help="of the simulated tomogram; the noisier, the less there is to know"
    )
    parser.add_argument("--rate", type=float, default=2e-3, help="highest learning rate")
    parser.add_argument("--side", type=int, default=32, help="of a patch, in voxels")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--patches", type=int, default=8, help="held-out patches that are looked at")
    parser.add_argument("--search", type=int, default=60, help="steps of the search for each patch's own posterior")
    parser.add_argument("--draws", type=int, default=64)
    parser.add_argument("--evidence", type=int, default=2, help="patches of which the evidence is sampled; 0 for none")
    parser.add_argument("--temperatures", type=int, default=100)
    parser.add_argument("--chains", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmark_posterior"))
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    prepared = prepare(_simulated(options.seed, options.snr), options.side, options.seed, masking=MASKING)
    m = measurement_of(prepared, select_patches(prepared, options.side, options.patches, options.seed), options.side)
    held = "held out" if prepared.held_out else "that training has seen"
    latents = (*(0 for _ in options.widths[1:]), options.latents)
    # Of a few patches torch is several times slower than oneDNN.
    with fast_convolutions():
        model = _model(LadderConfig(tuple(options.widths), latents, 1), prepared, options)
        print(f"{latents_of(model, m)} latents, {options.patches} patches of {options.side}^3, {held}", flush=True)
        results = {name: _measured(name, model, prepared, m, options) for name in (GAUSSIAN, FLOW)}
    _print(results)
    options.out.mkdir(parents=True, exist_ok=True)
    plain = {name: {k: v.tolist() if isinstance(v, Tensor) else v for k, v in one.items()} for name, one in results.items()}
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items()}
    (options.out / "posterior.json").write_text(json.dumps({"settings": settings} | plain, indent=1) + "\n")


def _simulated(seed: int, snr: float) -> Tomogram:
    made = simulate(SimulationConfig(shape=(64, 96, 96), snr=snr, seed=seed))
    half1, half2 = made.half1.numpy(), made.half2.numpy()
    return Tomogram("simulated", (half1 + half2) / 2, 10.0, made.tilts, (half1, half2))


def _model(config: LadderConfig, prepared: PreparedTomogram, options: argparse.Namespace) -> Ladder:
    """A flat model with a Gaussian posterior: half of the steps without the KL, or it would collapse; the rest with all of it."""
    ladder = Ladder(config, OBJECTIVE.encoders)
    for beta, steps in ((0.0, options.steps // 2), (1.0, options.steps - options.steps // 2)):
        training = _training(options, steps, options.rate)
        ladder = trained_on(Continuation(ladder, [prepared], training, MASKING, OBJECTIVE, beta), _print_loss)
    return ladder


def _training(options: argparse.Namespace, steps: int, rate: float) -> TrainingConfig:
    sizes = {"patch": options.side, "batch": options.batch, "steps": steps, "validate_every": steps}
    return TrainingConfig(**sizes, learning_rate=rate, ema=0.0, seed=options.seed, precision="float32")


def _print_loss(step: int, loss: float) -> None:
    if step % 20 == 0:
        print(f"  step {step}: loss {loss:.4f} nats a coefficient", flush=True)


def _of_posterior(name: str) -> bool:
    return name.startswith("encoder.") or ".masked_posterior." in name


def _measured(
    name: str, model: Ladder, prepared: PreparedTomogram, m: Measurement, options: argparse.Namespace
) -> dict[str, Any]:
    """Train the posterior on, decoder and prior frozen; then its bounds, (patches,) each in nats, and the evidence of a few."""
    ladder = Ladder(replace(model.config, posterior=name, flow_levels=1), OBJECTIVE.encoders)
    ladder.load_state_dict(model.state_dict(), strict=name == GAUSSIAN)
    print(f"training the {name} posterior alone", flush=True)
    began = time.perf_counter()
    training = replace(_training(options, options.posterior_steps, options.rate / 2), seed=options.seed + 1)
    frozen = lambda parameter: not _of_posterior(parameter)  # noqa: E731
    ladder = trained_on(Continuation(ladder, [prepared], training, MASKING, OBJECTIVE, 1.0, frozen=frozen), _print_loss)
    seconds = (time.perf_counter() - began) / options.posterior_steps
    ladder.requires_grad_(False)
    before, after = [], []
    for part in groups(m):
        problem = problem_of(ladder, part, R)
        moves = optimised(problem, options.search, seed=options.seed + 1)
        before.append(drawn(problem, options.draws, options.seed + 3))
        after.append(drawn(problem, options.draws, options.seed + 3, moves))
    weights = torch.cat([terms.log_weight for terms in after], -1)
    return {
        "bound": _joined(before, lambda terms: terms.bound_mean),
        "refined": _joined(after, lambda terms: terms.bound_mean),
        "weighted": importance_bounds(weights)[-1].bound,
        "effective": float(effective_sample_size(weights).mean()),
        "evidence": _evidence(ladder, m, options),
        "bins": float(problem_of(ladder, m, R).bins.mean()),
        "seconds_a_step": seconds,
    }


def _joined(parts: list[Any], of: Callable[[Any], Tensor]) -> Tensor:
    return torch.cat([of(part) for part in parts], -1)


def _evidence(ladder: Ladder, m: Measurement, options: argparse.Namespace) -> dict[str, Any] | None:
    """In nats a patch."""
    if not options.evidence:
        return None
    few = groups(m, options.evidence)[0]
    evidence: Evidence = evidence_of(ladder, few, R, options.temperatures, options.chains, options.seed)
    bins = problem_of(ladder, few, R).bins.tolist()
    return {
        "nats": [nats * n for nats, n in zip(evidence.nats, bins, strict=True)],
        "errors": [error * n for error, n in zip(evidence.errors, bins, strict=True)],
        "effective": evidence.effective,
        "accepted": evidence.accepted,
        "converged": evidence.converged,
    }


def _words(values: Tensor) -> str:
    return f"{float(values.mean()):.1f} +- {standard_error(values):.1f}"


def _print(results: dict[str, dict[str, Any]]) -> None:
    print(f"\nnats a patch of {results[GAUSSIAN]['bins']:.0f} measured coefficients; +- standard error over patches")
    print(f"{'posterior':<10} {'bound':>20} {'after the search':>20} {'amortisation gap':>18} {'weighted':>20} {'s a step':>9}")
    for name, one in results.items():
        gap = one["refined"] - one["bound"]
        cells = [_words(one["bound"]), _words(one["refined"]), _words(gap), _words(one["weighted"])]
        print(f"{name:<10} {cells[0]:>20} {cells[1]:>20} {cells[2]:>18} {cells[3]:>20} {one['seconds_a_step']:>9.2f}")
    gained = {key: results[FLOW][key] - results[GAUSSIAN][key] for key in ("bound", "refined")}
    print(f"the flow gains {_words(gained['bound'])} in the bound, {_words(gained['refined'])} after the search,")
    print("by which its gaps are smaller, as the evidence is the same; the search moves m and s, not what the flow makes")
    for name, one in results.items():
        evidence = one["evidence"]
        for patch, (nats, error) in enumerate(zip(evidence["nats"], evidence["errors"], strict=True) if evidence else ()):
            left = nats - float(one["refined"][patch])
            print(f"patch {patch}, from the {name} posterior: evidence {nats:.1f} +- {error:.1f}, approximation gap {left:.1f}")
        if evidence:
            state = "converged" if evidence["converged"] else "not converged"
            print(f"  effective chains {evidence['effective']:.1f}, {evidence['accepted']:.0%} of moves accepted: {state}")


if __name__ == "__main__":
    main()
