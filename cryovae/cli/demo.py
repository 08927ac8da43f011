"""cryovae demo."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from cryovae.workflows.compute import ComputeOptions
from cryovae.workflows.options import only
from cryovae.workflows.requests import OutputOptions

NAME = "sample"


def demo(
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the tomogram and the results.")] = Path("demo"),
    show: Annotated[bool, typer.Option("--open", help="Open the report in a browser.")] = False,
    compute: Annotated[ComputeOptions, only("device", "threads")],
    results: Annotated[OutputOptions, only("overwrite")],
) -> None:
    """Simulate a small tomogram, restore it by the network of the package, and score it against its truth.

    It needs no data, and takes half a minute on two cores. Results that are there already are kept.
    """
    mean, report = output / f"{NAME}_mean.mrc", output / "report.html"
    if results.overwrite or not (mean.exists() and report.exists()):
        _run(output, mean, compute)
    print(f"restored: {mean}")
    if show:
        webbrowser.open(report.resolve().as_uri())
    else:
        print(f"open {report} in a browser, or: cryovae demo -o {output} --open")


def _run(output: Path, mean: Path, compute: ComputeOptions) -> None:
    """Simulate, restore and score. Files of an earlier demonstration are replaced."""
    from cryovae.simulation.simulate import SAMPLE
    from cryovae.workflows import run
    from cryovae.workflows.evaluate import evaluate_volume
    from cryovae.workflows.geometry import GeometryOptions
    from cryovae.workflows.requests import RestoreRequest
    from cryovae.workflows.settings import RestorationSettings
    from cryovae.workflows.simulate import write_ideal

    compute.open_device()
    write_ideal(output, NAME, SAMPLE, overwrite=True)
    paths = {kind: output / f"{NAME}_{kind}.mrc" for kind in ("half1", "half2", "truth")}
    request = RestoreRequest(
        half1=paths["half1"],
        half2=paths["half2"],
        output=output,
        start="base",
        geometry=GeometryOptions(tilts=[output / f"{NAME}.tlt"]),
        settings=RestorationSettings(preset="quick", settings=["restoration.halves=false"]),
        compute=compute,
        results=OutputOptions(overwrite=True),
    )
    run.restore(request)
    evaluate_volume(mean, paths["truth"], None, None, (0.01, 0.2), shells=False)
