"""The results of a diagnosis in sentences, with advice on how to improve the model."""

from __future__ import annotations

from math import log

from cryovae.evaluation.diagnosis.diagnose import Diagnosis
from cryovae.evaluation.diagnosis.information import LevelNats

# A level without an active channel is unused if the loss from shuffling its latents is below this, in nats per coefficient, or
# below twice its standard error.
MIN_SHUFFLE_LOSS = 1e-3
# Nats per coefficient above which a gap is called large.
LARGE_GAP = 0.03

TWO_ENCODERS = (
    "how to read this: this model restores the density decoded from r's means. These, the decoder and the prior are trained by "
    "completion, on measured bins that are hidden from r. q is trained later, by the bound with fixed decoder and prior, and the "
    "widths of r after q. So the bound of q shows how well q fits a model that was not made for it, noise included. The prior "
    "was trained only as a part of that mean, and posteriors start narrower than it: most of the rate is due to their smaller "
    "width, which is similar for all patches ('by the mean' is the rest). This is a choice of design, not a fault. The quality "
    "of the restored density is shown by the held-out prediction."
)
ONE_ENCODER = "how to read this: r alone is the posterior, and the model is trained by the bound."


def verdicts(diagnosis: Diagnosis, encoders: int) -> list[str]:
    """Sentences about a diagnosis, one for each subject; ``encoders`` is 2 for q and r, 1 for r only."""
    intro = TWO_ENCODERS if encoders == 2 else ONE_ENCODER
    lines = [intro, _gaussian(diagnosis, encoders), _held_out_prediction(diagnosis), *_levels(diagnosis, encoders)]
    return [*lines, _amortisation(diagnosis), _approximation(diagnosis)]


def _gaussian(diagnosis: Diagnosis, encoders: int) -> str:
    beyond = diagnosis.beyond
    figures = f"{beyond.mean:+.4f} +- {beyond.error:.4f} nats per measured coefficient"
    name = "the bound of q" if encoders == 2 else "the bound"
    if beyond.mean > 2 * beyond.error:
        return f"Gaussian of the same spectrum: {name} is better, by {figures}"
    comparison = "is not better than it" if beyond.mean > -2 * beyond.error else "is worse"
    line = f"Gaussian of the same spectrum: {name} {comparison} (difference {figures}): as a density of patches, the model has "
    line += "learned nothing beyond the power spectrum."
    if encoders == 2:
        line += " With two encoders the bound trains neither decoder nor prior: see the held-out prediction instead."
    return line


def _held_out_prediction(diagnosis: Diagnosis) -> str:
    gain = diagnosis.held_out_prediction
    line = (
        f"held-out prediction: the restored density predicts measured bins that are hidden from r {gain.mean:+.4f} +- "
        f"{gain.error:.4f} nats per hidden coefficient better than the Gaussian of the same spectrum, whose bins are independent"
    )
    if gain.mean > 2 * gain.error:
        return line + ": this is what the model has learned."
    return line + ": no gain. The model has not learned to fill the wedge: train longer, or check that the data contain signal."


def _levels(diagnosis: Diagnosis, encoders: int) -> list[str]:
    main = "q" if encoders == 2 else "r"
    pairs = zip(diagnosis.levels[main], diagnosis.levels["r"], strict=True)
    lines = [line for level, masked_level in pairs if (line := _level(level, masked_level, diagnosis, encoders))]
    return lines or ["no level has collapsed: each has channels that depend on the patch."]


def _level(level: LevelNats, masked_level: LevelNats, diagnosis: Diagnosis, encoders: int) -> str | None:
    main = "q" if encoders == 2 else "r"
    where, channels = f"level at stride {2**level.level}", len(level.variance)
    loss = diagnosis.shuffled["r"][level.level]
    unused = is_unused(level, diagnosis, main)
    if unused and is_unused(masked_level, diagnosis, "r"):
        return (
            f"{where}: collapsed: no channel of {channels} is active, the means account for {level.rate_of_mean:.3g} of "
            f"{level.rate:.0f} nats per patch, and the latents of another patch lose {loss.mean:.1e} +- {loss.error:.0e} nats "
            f"per coefficient. {advice(encoders)}"
        )
    if unused:
        return (
            f"{where}: r uses it ({masked_level.active} active channels; the latents of another patch lose {loss.mean:.4f} nats "
            f"per hidden coefficient), q does not (no channel of {channels} active): not collapsed, as the restored density "
            "needs it. To train q more, give the bound more steps (--set objective.completion_fraction=0.6) or each channel free "
            "nats (objective.free_bits=10)."
        )
    if masked_level.active == 0:
        return (
            f"{where}: close to collapse: no channel of r varies by a tenth of the prior's width, but the latents of another "
            f"patch lose {loss.mean:.4f} nats per coefficient. {advice(encoders)}"
        )
    return None


def is_unused(level: LevelNats, diagnosis: Diagnosis, role: str) -> bool:
    """Whether a level has no information about a patch: no channel is active, and shuffling its latents has no effect."""
    loss = diagnosis.shuffled[role][level.level]
    return level.active == 0 and not loss.mean > max(MIN_SHUFFLE_LOSS, 2 * loss.error)


def advice(encoders: int) -> str:
    """Advice on a collapsed level."""
    if encoders == 2:
        return (
            "This is not due to the KL, which r's means never pay: finer levels hold all that completion needs. The restored "
            "density needs no change. Remove the level for a smaller model (0 in ladder.latents), or narrow the finer ones."
        )
    return (
        "Possible changes: a longer warm-up of the KL (--set objective.warmup=0.3), several cycles (objective.cycles=4), weights "
        "by the nats of each level during the warm-up (objective.balance=true), free nats for each channel "
        "(objective.free_bits=10), a smaller --beta, or fewer channels on finer levels. If it stays unused, "
        "remove the level (0 in ladder.latents)."
    )


def _amortisation(diagnosis: Diagnosis) -> str:
    gap = diagnosis.gaps.amortisation
    return (
        f"amortisation gap: {gap.mean:.4f} +- {gap.error:.4f} nats per coefficient ({gap.mean * diagnosis.bins:.4g} nats per "
        "patch) are gained by refining the posterior of each patch with frozen weights; a lower bound, as refinement is short."
        + (" The gap is large: the encoder is far from optimal for this bound." if gap.mean > LARGE_GAP else "")
    )


def _approximation(diagnosis: Diagnosis) -> str:
    gaps = diagnosis.gaps
    draws = max(gaps.importance)
    line = (
        f"approximation gap: the importance-weighted bound of {draws} draws differs by {gaps.approximation.mean:+.4f} +- "
        f"{gaps.approximation.error:.4f} nats per coefficient from the bound after refinement, effective sample size "
        f"{gaps.effective:.1f} of {draws}"
    )
    if gaps.approximation.mean > LARGE_GAP:
        line += ": large, a flow on the coarse levels may reduce it (--posterior flow)"
    if not gaps.converged:
        line += ": not converged, so this is a lower bound of the gap"
    evidence = gaps.evidence
    if evidence is None:
        return line + ". Too many latents for annealed importance sampling."
    mean = sum(evidence.nats) / len(evidence.nats)
    state = "converged" if evidence.converged else "not converged"
    return (
        f"{line}. Annealed importance sampling: evidence {mean:.4f}, {mean - gaps.refined.mean:+.4f} nats per coefficient from "
        f"the bound after refinement, effective chains {evidence.effective:.1f}, {evidence.accepted:.0%} of moves "
        f"accepted, {state}."
    )


def information_words(level: LevelNats, patches: int) -> str:
    """Lower and upper bound of the information of a level about its patch, in nats per patch, as text."""
    low = min(level.minibatch, log(patches))
    full = low > log(patches) - 0.01
    return f"{low:.2f}{' (full)' if full else ''} to {level.upper_bound:.4g}"
