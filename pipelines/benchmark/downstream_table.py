"""The tables of downstream.py in Markdown, means over the seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from scenes import AROUND, INSTEAD, PICKED, VOLUMES

LABELS = {"4v4r": "70S ribosome, 2.5 MDa", "1bxn": "RuBisCO, 550 kDa", "1qvr": "ClpB, 290 kDa"}


def markdown(results: list[dict[str, Any]], spent: dict[str, float], missing: Sequence[str] = ()) -> str:
    """All tables. results: the figures of each case; spent: processor seconds by stage; missing: cases that are not made yet."""
    levels = sorted({r["snr"] for r in results}, reverse=True)
    lines = ["# Downstream: picking, averages and membranes on raw and restored tomograms", ""]
    lines += [f"Cases: {', '.join(r['name'] for r in results)}; figures are means over the seeds."]
    lines += [f"Not made yet, and in no figure: {', '.join(missing)}."] if missing else []
    lines += [f"Around the picked molecules: {', '.join(AROUND)}; in their place where absent: {', '.join(INSTEAD)}.", ""]
    for title, rows in (("Picking and averages", _picking), ("Membranes", _membranes), ("Standard deviation", _std)):
        lines += [f"## {title}", "", *rows(results, levels), ""]
    total = sum(spent.values())
    lines += ["## Processor time", "", "| stage | processor seconds |", "| --- | --- |"]
    lines += [f"| {stage} | {seconds:.0f} |" for stage, seconds in spent.items()] + [f"| all | {total:.0f} |", ""]
    return "\n".join(lines)


def _of(results: list[dict[str, Any]], level: float, get: Callable[[dict[str, Any]], Any]) -> list[float]:
    values = [get(r) for r in results if r["snr"] == level]
    return [float("nan") if v is None else float(v) for v in values]


def _mean(values: list[float], form: str) -> str:
    """The mean over seeds; a dash if a seed has no figure: a mean of the others would be of other cases."""
    return "-" if np.isnan(values).any() else format(float(np.mean(values)), form)


def _picking(results: list[dict[str, Any]], levels: list[float]) -> Iterator[str]:
    yield (
        "| SNR | molecule | there | volume | AP | AP by seed | P at 0.5 | P at 0.7 | P at 0.9 | false where absent | "
        "FSC, picked poses | angstrom at 0.5 | FSC, true poses | angstrom at 0.5 |"
    )
    yield "| --- |" * 1 + " --- |" * 13
    for level in levels:
        for name in PICKED:
            for kind in VOLUMES:

                def get(key: str, name: str = name, kind: str = kind) -> list[float]:
                    return _of(results, level, lambda r: r["molecules"][name]["volumes"][kind][key])  # noqa: B023

                there = _of(results, level, lambda r: r["molecules"][name]["there"])  # noqa: B023
                cells = [
                    f"{level:g}",
                    LABELS[name],
                    "+".join(f"{n:.0f}" for n in there),
                    kind,
                    _mean(get("average_precision"), ".3f"),
                ]
                cells += ["/".join(f"{v:.2f}" for v in get("average_precision"))]
                cells += [_mean(get(f"precision_{r:g}"), ".2f") for r in (0.5, 0.7, 0.9)]
                cells += [_mean(get("false_in_absent"), ".1f")]
                for pose in ("picked", "true"):
                    cells += [_mean(get(f"fsc_{pose}"), ".3f"), _mean(get(f"resolution_{pose}"), ".1f")]
                yield "| " + " | ".join(cells) + " |"


def _membranes(results: list[dict[str, Any]], levels: list[float]) -> Iterator[str]:
    yield "| SNR | " + " | ".join(VOLUMES) + " |"
    yield "| --- |" + " --- |" * len(VOLUMES)
    for level in levels:
        by_volume = [_of(results, level, lambda r, kind=kind: r["membranes"][kind]) for kind in VOLUMES]  # type: ignore[misc]
        yield f"| {level:g} | " + " | ".join(_mean(values, ".3f") for values in by_volume) + " |"


def _std(results: list[dict[str, Any]], levels: list[float]) -> Iterator[str]:
    yield "| SNR | molecule | AUC by seed | right picks | false picks |"
    yield "| --- | --- | --- | --- | --- |"
    for level in levels:
        for name in PICKED:
            kept = [r["molecules"][name]["std_auc"] for r in results if r["snr"] == level]
            cells = [
                f"{level:g}",
                LABELS[name],
                "/".join(_mean([float("nan") if one["auc"] is None else one["auc"]], ".2f") for one in kept),
            ]
            cells += ["/".join(str(one[key]) for one in kept) for key in ("right", "false")]
            yield "| " + " | ".join(cells) + " |"
