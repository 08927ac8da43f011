"""What a search of the tiles gained, and how far its samples can be trusted, in sentences: for the log and the report."""

from __future__ import annotations

from typing import Any

# Share of tiles with too few candidates, and acceptance, at which a sampler is not to be trusted; nats a coefficient by which
# chains may still climb over the half of their steps that is kept.
# And relaxation times that a chain needs to forget where it started.
COLLAPSED, ACCEPTED, CLIMBED, RELAXED = 0.5, 0.2, 0.005, 3.0


def name_of(settings: dict[str, Any]) -> str:
    """What posterior is restored, by the settings [restoration] of a run: in headers, pictures and layers."""
    sampler = settings.get("sampler", "amortised")
    parts = [tempered_name(settings)] if tempered_name(settings) else []
    parts += [f"refined {settings['refine']}"] if settings.get("refine") else []
    parts += [sampler] if sampler != "amortised" else []
    return " ".join([*parts, "posterior"])


def tempered_name(settings: dict[str, Any]) -> str:
    """'tempered (T 0.5)', or nothing for the Bayes posterior."""
    temperature = float(settings.get("temperature", 1.0))
    return "" if temperature == 1 else f"tempered (T {temperature:g})"


def search_words(search: dict[str, Any] | None) -> list[str]:
    """Sentences on the record of a search, none without one."""
    if not search:
        return []
    return [*_tempered(search), *_refined(search), *_reweighted(search), *_langevin(search)]


def _tempered(search: dict[str, Any]) -> list[str]:
    if not search.get("tempered"):
        return []
    return [
        f"Tempered: the likelihood was taken at temperature {search['temperature']:g}. This is not the Bayes posterior, and its "
        "spread is no error bar."
    ]


def _refined(search: dict[str, Any]) -> list[str]:
    if "asked_steps" not in search:
        return []
    guard, asked, found = search.get("guard"), search["asked_steps"], search.get("refined")
    said = []
    if found is not None:
        said.append(
            f"Refinement of {found['steps']} steps raised the bound by {found['gain_nats_per_coefficient']:.4f} nats a measured "
            f"coefficient, {found['gain_nats_per_coefficient_per_second_of_tile']:.4f} a second of each tile."
        )
    return [*said, "There is no wedge to hide, so refinement went unguarded." if guard is None else _early_stopping(guard, asked)]


def _early_stopping(guard: dict[str, Any], asked: int) -> str:
    """What the guard found, and what it let refinement do."""
    hidden, bound = guard["hidden_nats_per_coefficient"], guard["bound_nats_per_coefficient"]
    allowed = guard["allowed_steps"]
    if allowed:
        return f"Hidden measured bins gain {max(hidden):+.4f} nats a coefficient by {allowed} of {asked} steps, the best."
    return (
        f"Refinement refused: it foretells hidden measured bins no better at any look, after {asked} steps by {hidden[-1]:+.4f} "
        f"nats a coefficient, though the bound of the bins given rises by {bound[-1]:+.4f}: the wedge would pay. The encoder's "
        "posterior is kept."
    )


def _reweighted(search: dict[str, Any]) -> list[str]:
    size = search.get("effective_sample_size")
    if not size:
        return []
    few = next(value for key, value in size.items() if key.startswith("share_below"))
    said = [
        f"Effective sample size {size['mean']:.1f} of {size['of']} candidates on average over tiles, {size['least']:.1f} at the "
        "least."
    ]
    if few > COLLAPSED:
        said.append(
            "The weights have collapsed: one candidate outweighs the others in most tiles, so that mean and samples are single "
            "draws, and the standard deviation says nothing."
        )
    return said


def _langevin(search: dict[str, Any]) -> list[str]:
    found = search.get("langevin")
    if not found:
        return []
    climb = found["climb_nats_per_coefficient"]
    said = [
        f"Langevin: {found['accepted']:.2f} of the steps accepted, of {found['steps']} for each sample; the log-density moved by "
        f"{climb:+.4f} nats a coefficient over those kept, and a chain lasts {found['relaxations']:.2f} relaxation times."
    ]
    if found["accepted"] < ACCEPTED or abs(climb) > CLIMBED or found["relaxations"] < RELAXED:
        said.append(
            "The chains have not converged, and the samples lean on where they started: give more steps, "
            f"--set restoration.chain={10 * found['steps']}."
        )
    return said
