"""cryovae simulate."""

from __future__ import annotations

from cryovae.workflows.simulate_request import SimulateRequest


def simulate(request: SimulateRequest) -> None:
    """Simulate a tomogram with known truth: full, halves, truth, tilt series, tilts, and the molecules' positions.

    An ideal wedge uses shape, tilt range and step, snr (0.3 by default), voxel size, defocus, crowding, species and seed.
    """
    from cryovae.workflows.simulate import simulate_request

    simulate_request(request)
