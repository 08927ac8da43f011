"""The diagnosis in words: what the figures say, what is wrong, and what mends it. A choice of design is not called a disease."""

from __future__ import annotations

from math import log

from cryovae.evaluate.diagnosis.diagnose import Diagnosis
from cryovae.evaluate.diagnosis.information import LevelNats

# A level without an active channel says nothing if to take another patch's costs less than this, in nats a coefficient, or less
# than twice its standard error.
MISSED = 1e-3
# Nats a coefficient above which an amortisation gap is called large.
LARGE = 0.03

TWO_ENCODERS = (
    "how to read this: the answer of this model is what r's means decode to. They, the decoder and the prior are trained by "
    "completion, on bins that r was not given. q comes late and is trained by the bound with decoder and prior fixed, and r's "
    "widths after q. So the bound of q tells how well q has found its way in a model that was not made for it, noise included. "
    "The prior was trained as a part of that mean and never as a prior, and posteriors start narrower than it: most of the rate "
    "is the price of being narrow, much the same for all patches ('by the mean' is the rest). That is a choice of design, not a "
    "fault. Whether the answer is any good stands under 'hidden bins'."
)
ONE_ENCODER = "how to read this: r alone is the posterior, and the bound is what trained the model."


def verdicts(found: Diagnosis, encoders: int) -> list[str]:
    """Sentences, each of one matter."""
    said = [TWO_ENCODERS if encoders == 2 else ONE_ENCODER, _gaussian(found, encoders), _hidden(found)]
    said += _levels(found, encoders)
    return [*said, _amortisation(found), _approximation(found)]


def _gaussian(found: Diagnosis, encoders: int) -> str:
    beyond = found.beyond
    figures = f"{beyond.mean:+.4f} +- {beyond.error:.4f} nats a measured coefficient"
    name = "the bound of q" if encoders == 2 else "the bound"
    if beyond.mean > 2 * beyond.error:
        return f"Gaussian of the same spectrum: beaten by {name}, {figures}"
    worse = "is not beaten" if beyond.mean > -2 * beyond.error else "is better than this model"
    line = f"Gaussian of the same spectrum: it {worse} ({name} less its log-likelihood: {figures}): as a density of patches the "
    line += "model has learned nothing that the power spectrum does not say."
    if encoders == 2:
        line += " With two encoders the bound trained neither decoder nor prior: judge the answer by the hidden bins."
    return line


def _hidden(found: Diagnosis) -> str:
    gain = found.calibration_result
    line = (
        f"hidden bins: measured, and not given to r. What r's means decode to foretells them {gain.mean:+.4f} +- "
        f"{gain.error:.4f} nats a hidden coefficient better than the Gaussian of the same spectrum, to which one bin says "
        "nothing of another"
    )
    if gain.mean > 2 * gain.error:
        return line + ": that is what the model has learned."
    return line + ": nothing. It has not learned to fill a wedge: train longer, or look whether there is signal to learn from."


def _levels(found: Diagnosis, encoders: int) -> list[str]:
    main = "q" if encoders == 2 else "r"
    pairs = zip(found.levels[main], found.levels["r"], strict=True)
    said = [line for level, masked_level in pairs if (line := _level(level, masked_level, found, encoders))]
    return said or ["no level has collapsed: some channels of each move with the patch."]


def _level(level: LevelNats, masked_level: LevelNats, found: Diagnosis, encoders: int) -> str | None:
    main = "q" if encoders == 2 else "r"
    where, channels = f"level at stride {2**level.level}", len(level.variance)
    if is_silent(level, found, main) and is_silent(masked_level, found, "r"):
        lost = found.shuffled["r"][level.level]
        figures = (
            f"no channel of {channels} is active, of {level.rate:.0f} nats a patch the mean accounts for "
            f"{level.rate_of_mean:.3g}, and another patch's latents cost {lost.mean:.1e} +- {lost.error:.0e} nats a coefficient"
        )
        return f"{where}: collapsed: {figures}. {remedy(encoders)}"
    if is_silent(level, found, main):
        return (
            f"{where}: q does not use it (no channel of {channels} active), r does ({masked_level.active} active, another patch's "
            f"latents cost {found.shuffled['r'][level.level].mean:.4f} nats a hidden coefficient): not collapsed, as the answer "
            "needs it. q has not learned it: --set objective.completion_fraction=0.6 gives the bound more of the training, "
            "objective.free_bits=10 gives each channel that many nats a patch for nothing."
        )
    if masked_level.active == 0:
        return (
            f"{where}: close to collapse: no channel of r moves by a tenth of the prior's width, though another patch's latents "
            f"cost {found.shuffled['r'][level.level].mean:.4f} nats a coefficient. {remedy(encoders)}"
        )
    return None


def is_silent(level: LevelNats, found: Diagnosis, role: str) -> bool:
    """Whether a level says nothing of a patch: no channel is active, and it costs nothing to take another patch's."""
    lost = found.shuffled[role][level.level]
    return level.active == 0 and not lost.mean > max(MISSED, 2 * lost.error)


def remedy(encoders: int) -> str:
    """What brings a collapsed level back."""
    if encoders == 2:
        return (
            "No KL emptied it, as r's mean never paid one: finer levels say all that completion asks for. Remedy: none is needed "
            "for the answer; for a smaller model take the level away (0 in ladder.latents), or narrow the finer ones to use it."
        )
    return (
        "Remedy: a longer warm-up of the KL (--set objective.warmup=0.3), one in cycles (objective.cycles=4), levels charged by "
        "their nats a latent while it lasts (objective.balance=true), nats that each channel has for nothing "
        "(objective.free_bits=10), a smaller --beta, or fewer channels on finer levels; if it stays silent take the level away "
        "(0 in ladder.latents)."
    )


def _amortisation(found: Diagnosis) -> str:
    gap = found.gaps.amortisation
    return (
        f"amortisation gap: {gap.mean:.4f} +- {gap.error:.4f} nats a coefficient ({gap.mean * found.bins:.4g} nats a patch) are "
        "gained by searching for each patch's own posterior, weights frozen; at least so much, as the search is short."
        + (" That is a lot: the encoder is far from trained for this bound." if gap.mean > LARGE else "")
    )


def _approximation(found: Diagnosis) -> str:
    gaps = found.gaps
    most = max(gaps.importance)
    line = (
        f"approximation gap: the importance-weighted bound of {most} draws is {gaps.approximation.mean:+.4f} +- "
        f"{gaps.approximation.error:.4f} nats a coefficient from the bound after the search, effective sample size "
        f"{gaps.effective:.1f} of {most}"
    )
    if gaps.approximation.mean > LARGE:
        line += ": large, a flow on the coarse levels may narrow it (--posterior flow)"
    if not gaps.converged:
        line += ": not converged, the gap is at least that, and how much more these draws cannot tell"
    evidence = gaps.evidence
    if evidence is None:
        return line + ". Too many latents for annealed importance sampling."
    mean = sum(evidence.nats) / len(evidence.nats)
    state = "converged" if evidence.converged else "not converged"
    return (
        line
        + f". Annealed importance sampling: evidence {mean:.4f}, {mean - gaps.posterior_tiles.mean:+.4f} nats a coefficient from the "
        f"bound after the search, effective chains {evidence.effective:.1f}, {evidence.accepted:.0%} of moves accepted, {state}."
    )


def information_words(level: LevelNats, patches: int) -> str:
    """The two bounds of what a level says of its patch, in nats a patch."""
    low = min(level.minibatch, log(patches))
    full = low > log(patches) - 0.01
    return f"{low:.2f}{' (full)' if full else ''} to {level.most:.4g}"
