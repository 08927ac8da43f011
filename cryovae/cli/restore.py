"""cryovae restore."""

from __future__ import annotations

from cryovae.workflows.requests import RestoreRequest


def restore(request: RestoreRequest) -> None:
    """Restore a tomogram, from one volume or from two halves.

    Results are the posterior mean, its standard deviation, and samples. A table of tomograms (.star of IsoNet, RELION or
    cryovae star import) is restored row by row with one model.
    """
    if request.results.dry_run:
        from cryovae.cli.dry_run import say_restore

        say_restore(request)
        return
    from cryovae.workflows import run

    restored = run.restore(request)
    print(f"restored: {restored}")
    report = restored.with_name("report.html")
    if report.exists():
        print(f"report: {report}")
