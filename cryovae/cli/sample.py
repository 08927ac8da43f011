"""cryovae sample."""

from __future__ import annotations

from cryovae.cli.sample_request import SampleRequest


def sample(request: SampleRequest) -> None:
    """Draw new patches, or interpolate between two: MRC files, and their slices on one sheet.

    The generative model draws clean patches of its prior, in standard deviations of the signal, protein dark. At a position of a
    tomogram it draws from the posterior, on the grey scale of the tomogram. A run can draw from its own model instead.
    """
    request.check()
    device = request.compute.open_device()

    from cryovae.cli.draw import draw

    print(f"drawn: {draw(request, device)}")
