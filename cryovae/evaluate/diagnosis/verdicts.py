"""The diagnosis in words: what the figures say, what is wrong, and what mends it. A choice of design is not called a disease."""

from __future__ import annotations

from math import log

from cryovae.evaluate.diagnosis.diagnose import Diagnosis
from cryovae.evaluate.diagnosis.information import LevelNats

# A level that says less than this, in nats a latent, and that no patch misses when it is another's, says nothing.
SILENT, MISSED = 1e-3, 1e-4

TWO_ENCODERS = (
    "how to read this: the answer of this model is what r's means decode to. They, the decoder and the prior are trained by "
    "completion, on bins that r was not given. q comes late and is trained by the bound with decoder and prior fixed, and r's "
    "widths after q. So the bound of q tells how well q has found its way in a model that was not made for it, noise included; "
    "the prior was trained by nothing, which is why the rate is high, and that is a choice of design, not a fault. Whether the "
    "answer is any good stands in 'hidden bins'."
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
    gain = found.answer_hidden - found.gaussian_hidden
    line = (
        f"hidden bins: what r's means decode to is {gain:+.4f} nats a hidden coefficient from the Gaussian of the same spectrum, "
    )
    line += "which foretells nothing of one bin from the others"
    if gain > 0:
        return line + ": the model foretells what it was not given."
    return line + (
        ": the answer, scored as if it were certain, is no better. It has learned nothing yet that fills a wedge: train longer."
    )


def _levels(found: Diagnosis, encoders: int) -> list[str]:
    said = []
    main = "q" if encoders == 2 else "r"
    for number, level in enumerate(found.levels[main]):
        partial = found.levels["r"][number]
        where = f"level at stride {2**level.level}"
        quiet = is_silent(level, found, main)
        if quiet and (main == "r" or is_silent(partial, found, "r")):
            said.append(
                f"{where}: collapsed. {level.active} of {len(level.variance)} channels active, {level.rate:.3g} nats a patch, "
                f"and shuffling it between patches costs {found.shuffled[main][level.level].mean:.1e} nats a coefficient. "
                + remedy(encoders)
            )
        elif quiet:
            said.append(
                f"{where}: q leaves it at the prior ({level.rate:.3g} nats a patch), r does not ({partial.active} of "
                f"{len(partial.variance)} channels active): no collapse of the model, as the answer uses the level, but q has "
                "not learned to yet. Give the bound more of the training: --set objective.solo=0.6."
            )
        elif 2 * partial.active < len(partial.variance):
            said.append(
                f"{where}: {partial.active} of {len(partial.variance)} channels of r active, the others idle: fewer "
                "(ladder.latents) would do as well."
            )
    return said or ["no level has collapsed: latents of each move with the patch."]


def is_silent(level: LevelNats, found: Diagnosis, role: str) -> bool:
    """Whether a level says nothing of a patch: no channel is active, or it costs nothing to take another patch's."""
    per_latent = level.rate / max(level.kl[0].numel(), 1)
    shuffled = found.shuffled[role][level.level]
    missed = shuffled.mean > MISSED
    return (level.active == 0 and not missed) or (per_latent < SILENT and not missed)


def remedy(encoders: int) -> str:
    """What brings a collapsed level back."""
    if encoders == 2:
        return (
            "Remedy: the answer does without it; take the level away (0 in ladder.latents), give it more to say by fewer "
            "channels on finer levels, or train longer."
        )
    return (
        "Remedy: a longer warm-up of the KL (--set objective.warmup=0.3), a smaller --beta, or fewer channels on the other "
        "levels; if it stays silent take the level away (0 in ladder.latents)."
    )


def _amortisation(found: Diagnosis) -> str:
    gap = found.gaps.amortisation
    return (
        f"amortisation gap: {gap.mean:.4f} +- {gap.error:.4f} nats a coefficient ({gap.mean * found.bins:.4g} nats a patch) are "
        "gained by searching for each patch's own posterior, weights frozen; at least so much, as the search is short."
    )


def _approximation(found: Diagnosis) -> str:
    gaps = found.gaps
    most = max(gaps.importance)
    line = (
        f"approximation gap: the importance-weighted bound of {most} draws is {gaps.approximation.mean:+.4f} +- "
        f"{gaps.approximation.error:.4f} nats a coefficient from the bound after the search, effective sample size "
        f"{gaps.effective:.1f} of {most}"
    )
    if not gaps.converged:
        line += ": not converged, the gap is at least that, and how much more these draws cannot tell"
    evidence = gaps.evidence
    if evidence is None:
        return line + ". Too many latents for annealed importance sampling."
    mean = sum(evidence.nats) / len(evidence.nats)
    state = "converged" if evidence.converged else "not converged"
    return (
        line
        + f". Annealed importance sampling: evidence {mean:.4f}, {mean - gaps.searched.mean:+.4f} nats a coefficient from the "
        f"bound after the search, effective chains {evidence.effective:.1f}, {evidence.accepted:.0%} of moves accepted, {state}."
    )


def information_words(level: LevelNats, patches: int) -> str:
    """The two bounds of what a level says of its patch, in nats a patch."""
    low = min(level.minibatch, log(patches))
    full = low > log(patches) - 0.01
    return f"{low:.2f}{' (full)' if full else ''} to {min(level.fitted, level.rate):.4g}"
