"""cryovae sample."""

from __future__ import annotations

from cryovae.cli.sample_request import SampleRequest


def sample(request: SampleRequest) -> None:
    """Draw new patches, or interpolate between two: MRC files, and their slices on one sheet.

    From the generative model: clean patches of its prior, in standard deviations of the signal, protein dark; or, at a position
    of a tomogram, patches of the posterior on its grey scale, with their mean and standard deviation. From the own model of a run
    too.
    """
    request.check()
    device = request.compute.open_device()

    from cryovae.cli.draw import draw

    print(f"drawn: {draw(request, device)}")
