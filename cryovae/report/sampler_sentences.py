"""Sentences for the log and the report on the result and the convergence of a sampler or a refinement of the posterior."""

from __future__ import annotations

from typing import Any

# Weights count as collapsed if more than this share of tiles has too few effective candidates.
COLLAPSED_SHARE = 0.5
# Chains count as converged if they came at least this far from their start, of the mean square distance of independent samples,
# and if the log-likelihood changed by at most this over their second half, in nats per coefficient.
MIN_MOVED, MAX_CLIMB = 0.8, 0.005


def posterior_name(settings: dict[str, Any]) -> str:
    """Name of the restored posterior, for headers, pictures and layers, from the settings [restoration] of a run."""
    sampler = settings.get("sampler", "amortised")
    parts = [tempered_name(settings)] if tempered_name(settings) else []
    parts += [f"refined {settings['refine']}"] if settings.get("refine") else []
    parts += [sampler] if sampler not in ("amortised", "flow") else []
    return " ".join([*parts, "posterior"])


def tempered_name(settings: dict[str, Any]) -> str:
    """'tempered (T 0.5)', or '' for the Bayes posterior."""
    temperature = float(settings.get("temperature", 1.0))
    return "" if temperature == 1 else f"tempered (T {temperature:g})"


def sampler_sentences(search: dict[str, Any] | None) -> list[str]:
    """Sentences on the record of a sampler; empty without a record."""
    if not search:
        return []
    return [*_tempered(search), *_refined(search), *_reweighted(search), *_langevin(search)]


def _tempered(search: dict[str, Any]) -> list[str]:
    if not search.get("tempered"):
        return []
    return [
        f"Tempered: the likelihood has temperature {search['temperature']:g}. This is not the Bayes posterior, and its standard "
        "deviation is no error bar."
    ]


def _refined(search: dict[str, Any]) -> list[str]:
    if "asked_steps" not in search:
        return []
    stopping, refined = search.get("guard"), search.get("refined")
    sentences = []
    if refined is not None:
        sentences.append(
            f"Refinement of {refined['steps']} steps raised the bound by {refined['gain_nats_per_coefficient']:.4f} nats per "
            f"measured coefficient, {refined['gain_nats_per_coefficient_per_second_of_tile']:.4f} per second of each tile."
        )
    if stopping is None:
        return [*sentences, "There is no wedge, so refinement was not checked on held-out bins."]
    return [*sentences, _early_stopping(stopping, search["asked_steps"])]


def _early_stopping(stopping: dict[str, Any], asked: int) -> str:
    """A sentence on the change of the log-likelihood of held-out bins by refinement."""
    held_out, bound = stopping["hidden_nats_per_coefficient"], stopping["bound_nats_per_coefficient"]
    allowed = stopping["allowed_steps"]
    if allowed:
        return f"Held-out measured bins gain most, {max(held_out):+.4f} nats per coefficient, by {allowed} of {asked} steps."
    return (
        f"Refinement was refused: at no check does it predict held-out measured bins better. After {asked} steps they gain "
        f"{held_out[-1]:+.4f} nats per coefficient, although the bound of the input bins gains {bound[-1]:+.4f}; the wedge would "
        "become worse. The posterior of the encoder is kept."
    )


def _reweighted(search: dict[str, Any]) -> list[str]:
    size = search.get("effective_sample_size")
    if not size:
        return []
    collapsed = next(value for key, value in size.items() if key.startswith("share_below"))
    sentences = [
        f"Effective sample size {size['mean']:.1f} of {size['of']} candidates on average of tiles, {size['least']:.1f} at least."
    ]
    if collapsed > COLLAPSED_SHARE:
        sentences.append(
            "The weights have collapsed: one candidate outweighs the others in most tiles. Mean and samples are single draws, "
            "and the standard deviation has no meaning."
        )
    return sentences


def _langevin(search: dict[str, Any]) -> list[str]:
    chains = search.get("langevin")
    if not chains or "moved" not in chains:
        # Chains of version 0.1 were others.
        return []
    climb = chains["climb_nats_per_coefficient"]
    sentences = [
        f"Langevin: {chains['steps']} steps took samples from their starts by at least {chains['moved']:.2f} of the mean square "
        f"distance of independent samples; the log-likelihood changed by {climb:+.4f} nats per coefficient over the second half."
    ]
    if not (chains["moved"] >= MIN_MOVED and abs(climb) <= MAX_CLIMB):
        sentences.append(
            "The chains have not converged, and the samples depend on those of the flow: use more steps, "
            f"--set restoration.chain={4 * chains['steps']}."
        )
    return sentences
